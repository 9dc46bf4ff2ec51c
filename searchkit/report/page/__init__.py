"""One page of one or several runs: plots, tables and words in a single file that needs neither network nor server.

Python renders the whole first state, so that it reads without a script; `page.js` adds selection, limits, sorting,
filtering and the download. A content security policy forbids the network and every other script and style.
"""

from searchkit.report.page.document import page
from searchkit.report.page.shown import Shown
from searchkit.report.page.words import Example

__all__ = ["Example", "Shown", "page"]
