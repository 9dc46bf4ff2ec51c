"""Start-up code of a process for which some libraries are not installed; put beside as `sitecustomize.py`."""

import os
import sys

ABSENT = frozenset(os.environ["ABSENT"].split(","))


class Without:
    """A finder that finds everything but the absent libraries."""

    def __init__(self, finder):
        self._finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.split(".")[0] in ABSENT else self._finder.find_spec(name, path, target)

    def find_distributions(self, context):
        found = getattr(self._finder, "find_distributions", lambda context: ())(context)
        return [distribution for distribution in found if distribution.metadata["Name"].lower() not in ABSENT]

    def invalidate_caches(self):
        getattr(self._finder, "invalidate_caches", lambda: None)()


sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
