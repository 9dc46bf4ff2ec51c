"""Studies, parameters and options that make no sense: one line that names field, value and what is allowed.

Every row is one mistake: what it is called, how it is made, what the line says (a regular expression).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.malformed import Said, files, study_file, study_text

FILES = {  # the text of the study file
    "empty": ("", r"does not define a function `study`"),
    "syntax": ("def study(:\n", r"small_study.py:1: SyntaxError"),
    "indentation": ("def study():\nreturn 1\n", r":2: IndentationError"),
    "a null byte": ("def study(): return 1\0\n", r"SyntaxError|ValueError"),
    "unknown encoding": ("# -*- coding: nothing-like-it -*-\n", r"SyntaxError"),
    "missing import": ("import nothing_like_this\n", r":1: ModuleNotFoundError"),
    "missing name": ("from searchkit import Sutdy\n", r":1: ImportError"),
    "raises when read": ("raise RuntimeError('first\\nsecond')\n", r":1: RuntimeError: first second$"),
    "ends the program": ("import sys\nsys.exit(0)\n", r":2: SystemExit"),
    "ends it in study()": ("import sys\ndef study():\n    sys.exit('done')\n", r":3: SystemExit: done"),
    "recursion": ("def study():\n    return study()\n", r"RecursionError"),
    "study is a number": ("study = 3\n", r"does not define a function"),
    "study is a class": ("class study: pass\n", r"does not define a function"),
    "returns None": ("def study():\n    pass\n", r"must return a searchkit.Study, got NoneType"),
    "returns a number": ("def study():\n    return 7\n", r"must return a searchkit.Study, got int"),
    "returns the class": ("from searchkit import Study\ndef study():\n    return Study\n", r"got type"),
    "is a generator": ("def study():\n    yield 1\n", r"got generator"),
    "raises": ("def study():\n    return 1 / 0\n", r":2: ZeroDivisionError: division by zero"),
    "annotation unknown": ("def study(a: Nothing = 1):\n    pass\n", r"NameError"),
    "annotation no type": (
        "from __future__ import annotations\ndef study(a: Nothing = 1):\n    pass\n",
        r"the annotations of study\(\): NameError",
    ),
    "a needed parameter": ("def study(a: int):\n    pass\n", r"needs a value for 'a': add -p a=VALUE"),
    "escapes and colours": ("raise ValueError('\\x1b[31m[red]\\u202e')\n", r"\\x1b\[31m\[red\]\\u202e"),
    "an endless message": ("raise ValueError('x' * 100_000)\n", r"x{300} \.\.\. x{300}"),
}

PARTS = {  # part of the study, how it is written, what is said
    "name a number": ("name", "5", r"Study: name must be a text, got 5"),
    "name empty": ("name", "''", r"a study's name is made of letters.*got self.name=''"),
    "name a path": ("name", "'../up'", r"a study's name is made of"),
    "name a folder": ("name", "'a/b'", r"a study's name is made of"),
    "name hidden": ("name", "'.hidden'", r"a study's name is made of"),
    "name markup": ("name", "'<b>[red]'", r"a study's name is made of"),
    "name ends its line": ("name", "'a\\n'", r"a study's name is made of.*'a\\n'"),
    "name endless": ("name", "'a' * 101", r"a study's name is made of"),
    "name a formula": ("name", "'=1+1'", r"a study's name is made of"),
    "task a text": ("task", "'sst2'", r"a study's task has the methods tables, encode, describe, got 'sst2'"),
    "task a class": ("task", "Generated", r"a study's task has the methods.*class"),
    "task None": ("task", "None", r"a study's task has the methods"),
    "supernet a text": ("supernet", "'bert-base-uncased'", r"Study: supernet must be a Supernet, got 'bert"),
    "supernet of a number": ("supernet", "Supernet(5, FineTune())", r"Supernet: model must be a text or a Scratch"),
    "recipe a class": ("supernet", "Supernet('x', FineTune)", r"Supernet: recipe is one of searchkit.training"),
    "recipe None": ("supernet", "Supernet('x', None)", r"Supernet: recipe is one of searchkit.training"),
    "attention dropout": (
        "supernet",
        "Supernet('x', FineTune(), '0')",
        r"attention_dropout must be a finite",
    ),
    "scratch of True": ("supernet", "Supernet(Scratch(layers=True), FineTune())", r"Scratch: layers must be a whole n"),
    "scratch of nothing": ("supernet", "Supernet(Scratch(width=0), FineTune())", r"width must be at least 1, got 0"),
    "scratch endless": (
        "supernet",
        "Supernet(Scratch(layers=10**9), FineTune())",
        r"layers must be at most 1000, got 1",
    ),
    "scratch dropout": (
        "supernet",
        "Supernet(Scratch(dropout=1.5), FineTune())",
        r"dropout must be in \[0, 1\)",
    ),
    "scratch heads": ("supernet", "Supernet(Scratch(width=9, heads=2), FineTune())", r"multiple of heads"),
    "space None": ("space", "None", r"Study: space must be a Space, got None"),
    "space a dimension": ("space", "Lengths()", r"Study: space must be a Space, got Lengths"),
    "space of nothing": ("space", "Space()", r"a space needs at least one dimension"),
    "space of a class": ("space", "Space(Lengths)", r"a space is made of dimensions, Lengths\(\) for one, got <class"),
    "space of a text": ("space", "Space('lengths')", r"a space is made of dimensions.*got 'lengths'"),
    "two lengths": ("space", "Space(Lengths(), Lengths())", r"different names, got \['lengths', 'lengths'\]"),
    "levels none": ("space", "Space(Lengths(levels=0))", r"levels must be at least 1, got self.levels=0"),
    "levels True": ("space", "Space(Lengths(levels=True))", r"levels must be their number or the levels.*True"),
    "levels endless": ("space", "Space(Lengths(levels=10**12))", r"levels must be at most 100000"),
    "levels a text": ("space", "Space(Lengths(levels='16'))", r"levels must be their number.*'16'"),
    "levels NaN": ("space", "Space(Lengths(levels=[0.5, math.nan]))", r"a level must be a finite number, got nan"),
    "levels falling": ("space", "Space(Lengths(levels=[0.5, 0.2]))", r"levels must increase"),
    "levels above one": ("space", "Space(Lengths(levels=[0.5, 1.2]))", r"must be in \(0, 1\]"),
    "levels negative": ("space", "Space(Lengths(levels=[-0.5, 1.0]))", r"must be in \(0, 1\]"),
    "basis unknown": ("space", "Space(Lengths(basis='words'))", r"basis must be 'fraction' or 'tokens', got.*'words'"),
    "start a number": ("space", "Space(Lengths(start=5))", r"start: a number for each layer is needed, got 5"),
    "start a text": ("space", "Space(Lengths(start='ab'))", r"start: a number for each layer is needed, got 'ab'"),
    "layers True": ("space", "Space(Lengths(layers=True))", r"layers must be an integer.*True"),
    "layers unlike": ("space", "Space(Lengths(layers=5))", r"the lengths are for 5 layers, the encoder has 3"),
    "scale unknown": ("space", "Space(Thresholds(scale='log'))", r"scale must be 'relative' or 'probability'"),
    "thresholds NaN": ("space", "Space(Thresholds(levels=[math.nan]))", r"finite number, got nan"),
    "thresholds untrained": ("space", "Space(Thresholds())", r"FineTune trains no score that thresholds could turn"),
    "integer endless": ("space", "Space(Integer('k', 0, 10**30))", r"Integer: high must be a whole number"),
    "integer upside down": ("space", "Space(Integer('k', 5, 1))", r"low must not exceed high"),
    "dimension unnamed": ("space", "Space(Integer('no name', 0, 1))", r"name must be an identifier"),
    "choice a text": ("space", "Space(Choice('k', 'abc'))", r"k: options is a list of values, got 'abc'"),
    "choice a number": ("space", "Space(Choice('k', 5))", r"k: options is a list of values, got 5"),
    "choice twice": ("space", "Space(Choice('k', [1, 1]))", r"options must be distinct"),
    "choice of objects": ("space", "Space(Choice('k', [object()]))", r"k: a candidate holds finite numbers"),
    "no objectives": ("objectives", "[]", r"at least one objective, got none"),
    "objectives a number": ("objectives", "5", r"objectives is a list of Objective, got 5"),
    "objectives of numbers": ("objectives", "[1]", r"objectives is a list.*got \[1\]"),
    "objectives of a text": ("objectives", "'accuracy'", r"objectives is a list.*got 'accuracy'"),
    "one objective, no list": ("objectives", "accuracy", r"objectives is a list"),
    "latency not called": ("objectives", "[accuracy, latency]", r"latency and memory are called: latency\(\)"),
    "objectives twice": ("objectives", "[macs, macs]", r"different names, got macs, macs"),
    "objective unnamed": ("objectives", "[Objective(5, 'u', 'lower', len)]", r"Objective: name must be a text, got 5"),
    "objective no name": ("objectives", "[Objective('a b', 'u', 'lower', len)]", r"name must be an identifier"),
    "objective sideways": ("objectives", "[Objective('a', 'u', 'up', len)]", r"better must be 'higher' or 'lower'"),
    "objective idle": ("objectives", "[Objective('a', 'u', 'lower', 5)]", r"measure is a function of a subject, got 5"),
    "latency of no batch": ("objectives", "[latency(0)]", r"latency: batch_size must be at least 1, got 0"),
    "latency of half": ("objectives", "[latency(1.5)]", r"latency: batch_size must be a whole number.*got 1.5"),
    "latency endless": ("objectives", "[latency(10**9)]", r"latency: batch_size must be at most 100000, got"),
    "latency length": ("objectives", "[latency(length=2)]", r"latency: length must be at least 3, got 2"),
    "latency rounds": ("objectives", "[latency(rounds=True)]", r"latency: rounds must be a whole number.*True"),
    "latency width NaN": (
        "objectives",
        "[latency(width=math.nan)]",
        r"latency: width must be a finite.*nan",
    ),
    "latency budget": ("objectives", "[latency(budget_s='1')]", r"latency: budget_s must be a finite number, got '1'"),
    "latency apart": (
        "objectives",
        "[latency(min_round_interval_s=-1)]",
        r"latency: min_round_interval_s must be in \[0, 3600\], got -1",
    ),
    "latency when": ("objectives", "[latency(during_search='later')]", r"unknown during_search 'later'"),
    "memory batches": ("objectives", "[memory(batches=None)]", r"memory: batches must be a whole number.*None"),
    "engine an object": ("engine", "object()", r"a study's engine has the methods check, start, describe, got <object"),
    "engine a class": ("engine", "NSGA2", r"a study's engine has the methods"),
    "population 0": ("engine", "NSGA2(population=0)", r"NSGA2: population must be at least 2, got 0"),
    "population negative": ("engine", "Random(population=-4)", r"Random: population must be at least 1, got -4"),
    "population True": ("engine", "NSGA2(population=True)", r"NSGA2: population must be a whole number, got True"),
    "population a text": ("engine", "NSGA2(population='24')", r"NSGA2: population must be a whole number, got '24'"),
    "population endless": (
        "engine",
        "NSGA2(population=10**12)",
        r"population must be at most 1000000, got 1",
    ),
    "crossover NaN": ("engine", "NSGA2(crossover=math.nan)", r"NSGA2: crossover must be a finite number, got nan"),
    "mutation 2": ("engine", "NSGA2(mutation=2)", r"crossover and mutation are shares in \[0, 1\]"),
    "first a number": ("engine", "NSGA2(first=5)", r"first is made of Candidate.of\(...\), got 5"),
    "budget a number": ("budget", "600", r"Study: budget must be a Budget, got 600"),
    "budget 0": ("budget", "Budget(0)", r"evaluations must be a whole number of at least 1, got 0"),
    "budget negative": ("budget", "Budget(-5)", r"evaluations must be a whole number of at least 1, got -5"),
    "budget True": ("budget", "Budget(True)", r"udget: evaluations must be a whole number.*got True"),
    "budget a half": ("budget", "Budget(2.5)", r"udget: evaluations must be a whole number.*got 2.5"),
    "budget NaN": ("budget", "Budget(math.nan)", r"udget: evaluations must be a whole number.*got nan"),
    "budget a text": ("budget", "Budget('600')", r"udget: evaluations must be a whole number.*got '600'"),
    "budget of numpy": ("budget", "Budget(np.int64(5))", r"udget: evaluations must be a whole number.*np.int64"),
    "budget of no hours": ("budget", "Budget(9, hours=0)", r"budget: hours must be more than 0, or None, got 0"),
    "budget hours NaN": ("budget", "Budget(9, hours=math.nan)", r"budget: hours must be more than 0, or None, got nan"),
    "budget worker-hours": ("budget", "Budget(9, worker_hours='1')", r"budget: worker_hours must be more than 0.*'1'"),
    "budget plateau": ("budget", "Budget(9, plateau=True)", r"budget: plateau is a Plateau.*got True"),
    "failures NaN": ("max_failures", "math.nan", r"max_failures"),
    "failures 2": ("max_failures", "2", r"max_failures"),
    "steady a text": ("engine", "NSGA2(mode='sometimes')", r"mode"),
    "seed negative": ("seed", "-1", r"seed must be in \[0, 2\*\*32\), got self.seed=-1"),
    "seed a half": ("seed", "1.5", r"Study: seed must be a whole number, got 1.5"),
    "seed True": ("seed", "True", r"Study: seed must be a whole number, got True"),
    "seed endless": ("seed", "2**40", r"seed must be in \[0, 2\*\*32\)"),
    "racing True": ("racing", "True", r"Study: racing must be a Racing or None, got True"),
    "racing sure": ("racing", "Racing(confidence=1.0)", r"confidence must be in \[0.5, 1\)"),
    "racing NaN": ("racing", "Racing(confidence=math.nan)", r"Racing: confidence must be a finite number, got nan"),
    "racing shards": ("racing", "Racing(shards=2.5)", r"Racing: shards must be a whole number, got 2.5"),
    "constraints no list": ("constraints", "Constraint(macs, at_most=1)", r"constraints is a list.*Constraint"),
    "constraint of a text": (
        "constraints",
        "[Constraint('macs', at_most=1)]",
        r"objective must be an Objective",
    ),
    "constraint NaN": (
        "constraints",
        "[Constraint(macs, at_most=math.nan)]",
        r"at_most must be a finite number",
    ),
    "constraint a text": (
        "constraints",
        "[Constraint(macs, at_most='1')]",
        r"at_most must be a finite number",
    ),
    "constraint empty": ("constraints", "[Constraint(macs)]", r"needs at_most or at_least, or within"),
    "constraint shut": ("constraints", "[Constraint(macs, at_most=0, at_least=1)]", r"allows nothing"),
    "front_objectives": ("front_objectives", "latency()", r"front_objectives is a list"),
    "an unknown part": ("sede", "0", r"TypeError.*'sede'"),
    "generated of nothing": ("task", "Generated(train=0)", r"a split needs at least 2 documents, got train=0"),
    "generated of a text": ("task", "Generated(train='64')", r"Generated: train must be a whole number, got '64'"),
    "generated length": ("task", "Generated(length=14)", r"Generated: length must be two whole numbers, got 14"),
    "generated seed": ("task", "Generated(seed=-1)", r"Generated: seed must be at least 0, got -1"),
    "data a number": ("task", "TextClassification(5)", r"TextClassification: data must be a text, got 5"),
    "data a path": ("task", "TextClassification(pathlib.Path('x'))", r"data must be a text, got PosixPath\('x'\)"),
    "data empty": ("task", "TextClassification('')", r"data must name a folder or a data set, got self.data=''"),
    "text a number": ("task", "TextClassification('x', text=5)", r"text must be a column or a pair of columns"),
    "text three": ("task", "TextClassification('x', text=('a', 'b', 'c'))", r"text must be a column or a pair"),
    "text the label": ("task", "TextClassification('x', text='label')", r"text and label must be different"),
    "max_length 0": ("task", "TextClassification('x', max_length=0)", r"max_length must be at least 8"),
    "max_length half": (
        "task",
        "TextClassification('x', max_length=64.5)",
        r"max_length must be a whole.*got 64.5",
    ),
    "limit 0": ("task", "TextClassification('x', limit=0)", r"a limit must be at least 1 row, got self.limit=0"),
    "limit a text": ("task", "TextClassification('x', limit='9')", r"limit: the rows of train must be a whole.*'9'"),
    "limit of no split": ("task", "TextClassification('x', limit={'dev': 9})", r"limit: unknown split 'dev'"),
    "fraction NaN": ("task", "TextClassification('x', search_fraction=math.nan)", r"search_fraction must be a finite"),
    "fractions all": ("task", "TextClassification('x', search_fraction=0.9)", r"leave something to train on"),
    "stride": ("task", "QuestionAnswering('x', stride=-1)", r"stride and question_length must not be less"),
    "no room": ("task", "QuestionAnswering('x', max_length=64)", r"max_length must leave more than stride"),
}

RECIPES = {  # how the recipe is written, what is said
    "epochs 0": ("FineTune(epochs=0)", r"Scratch has learnt nothing yet; FineTune\(epochs=0\) is for a model that has"),
    "epochs True": ("FineTune(epochs=True)", r"FineTune: epochs must be a whole number, got True"),
    "epochs a half": ("FineTune(epochs=1.5)", r"FineTune: epochs must be a whole number, got 1.5"),
    "batch a text": ("LengthDrop(batch_size='32')", r"LengthDrop: batch_size must be a whole number, got '32'"),
    "rate NaN": ("FineTune(learning_rate=math.nan)", r"FineTune: learning_rate must be a finite number, got nan"),
    "rate huge": ("FineTune(learning_rate=3)", r"learning_rate must be in \(0, 1\)"),
    "warmup": ("FineTune(warmup=2)", r"warmup is a fraction"),
    "decay": ("FineTune(weight_decay=None)", r"FineTune: weight_decay must be a finite number, got None"),
    "start a class": ("LengthDrop(start=FineTune)", r"LengthDrop: start must be a FineTune or None, got <class"),
    "input a text": ("LengthDrop(input='predictor')", r"LengthDrop: input must be an InputReducer or None"),
    "bound 0": ("LengthDrop(bound=0)", r"bound must be in \(0, 1\)"),
    "sandwich": ("LengthDrop(sandwich=-1)", r"sandwich must not be negative"),
    "fate": ("LengthDrop(fate='merge')", r"unknown fate 'merge'"),
    "fate a number": ("LengthDrop(fate=5)", r"LengthDrop: fate must be a text, got 5"),
    "eta": ("AdapLeR(eta=7)", r"eta must be in"),
    "hidden": ("AdapLeR(hidden=10**9)", r"hidden must be at most 100000, got 1000000000"),
    "temperature": ("LTP(temperature=math.inf)", r"LTP: temperature must be a finite number, got inf"),
    "target": ("Transkimmer(target=2)", r"target must be in \(0, 1\]"),
    "levels": ("PowerBert(levels=1)", r"levels must be at least 2"),
    "spans alone": ("BlockSkim()", r"BlockSkim trains question_answering, the task is classification"),
    "input scorer": ("FineTune(input=InputReducer(scorer='x'))", r"unknown input scorer 'x'"),
}

OPTIONS = {  # arguments after `searchkit run STUDY`, what is said
    "no value": (["-p", "evaluations"], r"-p 'evaluations': expected NAME=VALUE"),
    "no name": (["-p", "=5"], r"-p '=5': expected NAME=VALUE"),
    "an empty parameter": (["-p", ""], r"-p '': expected NAME=VALUE"),
    "no identifier": (["-p", "a-b=5"], r"-p 'a-b=5': expected NAME=VALUE"),
    "unknown parameter": (["-p", "evalutions=5"], r"unknown parameter 'evalutions'; did you mean 'evaluations'\?"),
    "given twice": (["-p", "evaluations=5", "-p", "evaluations=6"], r"evaluations is given twice, before as '5'"),
    "empty number": (["-p", "evaluations="], r"parameter evaluations='': expected int"),
    "no number": (["-p", "evaluations=many"], r"parameter evaluations='many': expected int"),
    "half a number": (["-p", "evaluations=2.5"], r"parameter evaluations='2.5': expected int"),
    "endless number": (["-p", "evaluations=" + "9" * 5000], r"expected int"),
    "negative number": (["-p", "evaluations=-3"], r"whole number of at least 1, got -3"),
    "no share": (["-p", "share=half"], r"parameter share='half': expected float"),
    "no switch": (["-p", "on=maybe"], r"parameter on='maybe': expected bool"),
    "escapes": (["-p", "evaluations=\x1b[2J\n[red]"], r"parameter evaluations='\\x1b\[2J\\n\[red\]': expected int"),
    "workers negative": (["--workers", "-1"], r"'--workers'.*0"),
    "workers a text": (["--workers", "two"], r"'--workers'.*valid int"),
    "workers endless": (["--workers", "1000000"], r"--workers must be at most 10000, got 1000000"),
    "threads negative": (["--threads", "-1"], r"'--threads'.*0"),
    "threads endless": (["--threads", "1000000"], r"--threads must be at most 1024, got 1000000"),
    "cache negative": (["--cache-mib", "-1"], r"'--cache-mib'.*0"),
    "device unknown": (["--device", "tpu"], r"--device 'tpu': expected auto, cpu, cuda or cuda:n"),
    "device empty": (["--device", ""], r"--device '': expected auto, cpu, cuda or cuda:n"),
    "device meta": (["--device", "meta"], r"--device 'meta': expected auto"),
    "device cuda:99": (["--device", "cuda:99"], r"--device 'cuda:99': this machine has \d+ CUDA devices"),
    "dtype unknown": (["--dtype", "int8"], r"unknown dtype 'int8'"),
    "dtype misspelt": (["--dtype", "fp33"], r"unknown dtype 'fp33'; did you mean 'fp32'\?"),
    "dtype empty": (["--dtype", ""], r"unknown dtype ''"),
    "dtype fp16 on a CPU": (["--dtype", "fp16", "--device", "cpu"], r"--dtype 'fp16' needs a GPU"),
    "runs a file": (["--runs", "small_study.py"], r"small_study.py/small: cannot write there"),
    "runs below a file": (["--runs", "small_study.py/x"], r"cannot write there: Not a directory"),
    "storage empty": (["--storage", ""], r"--storage is empty"),
    "address without workers": (["--ray-address", "auto"], r"--ray-address needs --workers N with N at least 1"),
    "address empty": (["--ray-address", "", "--workers", "1"], r"--ray-address is empty"),
    "GPUs NaN": (["--workers", "1", "--gpus-per-worker", "nan"], r"gpus.per.worker'?:? "),
    "GPUs negative": (["--workers", "1", "--gpus-per-worker", "-1"], r"'--gpus-per-worker'.*0"),
    "unknown option": (["--wokers", "2"], r"No such option: --wokers"),
    "option without value": (["--workers"], r"--workers.*requires an argument"),
    "one study too many": (["other.py"], r"unexpected extra argument.*other.py"),
}

COMMANDS = {  # whole command lines, what is said
    "no such command": (["rnu", "small_study.py"], r"No such command 'rnu'"),
    "no study": (["run"], r"Missing argument 'STUDY'"),
    "missing study": (["run", "nothing.py"], r"nothing.py: there is no such study file"),
    "study a folder": (["run", "."], r"\.: there is no such study file"),
    "study empty": (["run", ""], r"there is no such study file"),
    "study no Python": (["train", "data.csv"], r"data.csv: a study is a Python file, its name ends in .py"),
    "status of nothing": (["status", "nowhere"], r"nowhere: not a run folder: it has no study.json"),
    "report of nothing": (["report", "nowhere"], r"nowhere: not a run folder"),
    "verify of a file": (["verify", "data.csv"], r"data.csv/study.json: cannot be read"),
    "verify negative": (["verify", "nowhere", "--again", "-1"], r"'--again'.*0"),
    "measure no batch": (["measure", "nowhere", "--batch-size", "0"], r"'--batch-size'.*1"),
    "measure too short": (["measure", "nowhere", "--length", "2"], r"'--length'.*3"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_study(tmp_path: Path, said: Said, case: str) -> None:
    text, message = FILES[case]
    line = said.error("run", study_file(tmp_path, text))
    assert re.search(message, line), line
    assert "small_study.py" in line
    assert files(tmp_path).keys() == {"small_study.py"}, "nothing is made"


@pytest.mark.parametrize("case", PARTS)
def test_a_part_of_a_study_that_makes_no_sense(tmp_path: Path, said: Said, case: str) -> None:
    part, value, message = PARTS[case]
    line = said.error("run", study_file(tmp_path, **{part: value}))
    assert re.search(message, line), line
    assert files(tmp_path).keys() == {"small_study.py"}, "nothing is made"


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_that_makes_no_sense(tmp_path: Path, said: Said, case: str) -> None:
    recipe, message = RECIPES[case]
    supernet = f"Supernet(Scratch(layers=2, width=8, heads=2, feed_forward=8), {recipe})"
    line = said.error("run", study_file(tmp_path, supernet=supernet))
    assert re.search(message, line), line
    assert files(tmp_path).keys() == {"small_study.py"}, "nothing is made"


@pytest.mark.parametrize("case", OPTIONS)
def test_parameters_and_options_that_make_no_sense(tmp_path: Path, said: Said, case: str) -> None:
    arguments, message = OPTIONS[case]
    line = said.error("run", study_file(tmp_path), *arguments)
    assert re.search(message, line), line
    assert files(tmp_path).keys() == {"small_study.py"}, "nothing is made"


@pytest.mark.parametrize("case", COMMANDS)
def test_commands_that_make_no_sense(tmp_path: Path, said: Said, case: str) -> None:
    arguments, message = COMMANDS[case]
    study_file(tmp_path)
    (tmp_path / "data.csv").touch()
    line = said.error(*arguments)
    assert re.search(message, line), line
    assert files(tmp_path).keys() == {"small_study.py", "data.csv"}


def test_the_study_that_is_replaced_in_parts_is_right(tmp_path: Path) -> None:
    """Or else every mistake above might be another one."""
    from searchkit.runs.study_file import load

    loaded = load(study_file(tmp_path), {"evaluations": "9", "on": "no", "share": "0.1", "text": "none"})
    assert loaded.study.budget.evaluations == 9


@pytest.mark.parametrize(
    ("text", "arguments"), [("def study(:\n", []), (study_text(seed="-1"), []), (study_text(), ["--workers", "-1"])]
)
def test_in_a_process_of_its_own_a_mistake_is_one_line_too(tmp_path: Path, text: str, arguments: list[str]) -> None:
    command = [sys.executable, "-m", "searchkit", "run", str(study_file(tmp_path, text)), *arguments]
    environment = os.environ | {"COLUMNS": "80"}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stdout) == (2, "")
    (line,) = (line for line in result.stderr.splitlines() if not line.startswith("prepare:"))
    assert line.startswith("error: ")
