"""dev/mutate.py and its list; dev/LOG.md has the result of all mutants."""

import ast
import subprocess
import sys

import pytest
from helpers import ROOT, load_script

mutate = load_script("dev/mutate.py")
MUTANTS = mutate.read_mutants(ROOT / "dev" / "mutants.txt")


def test_nearly_all_mutants_of_the_list_fit_the_code_and_are_valid_python():
    assert len(set(MUTANTS)) == len(MUTANTS)
    fitting = [mutant for mutant in MUTANTS if not mutate.is_stale(mutant)]
    assert len(fitting) > max(120, 0.9 * len(MUTANTS))
    for mutant in fitting:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        changed = ast.parse(source.replace(mutant.old, mutant.new))
        assert ast.dump(changed) != ast.dump(ast.parse(source)), mutant


@pytest.mark.parametrize("text", ["- a\n", "@ mel.py tests\n+ a\n", "mel.py\n"])
def test_a_line_that_is_not_understood_is_named(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(mutate.UserError, match=r"list\.txt:"):
        mutate.read_mutants(tmp_path / "list.txt")


def test_a_mutant_is_killed_if_a_test_notices_it_and_survives_if_none_does():
    """In a new process, because a process with threads cannot be forked safely."""
    script = """
from dev import mutate
tests = "tests/test_losses.py -k adversarial"
noticed = mutate.Mutant("losses.py", tests, " for generated in generated_scores", "")
other = mutate.Mutant("losses.py", tests, "return F.l1_loss(generated_mel, real_mel)", "return None")
print(list(mutate.try_mutants([noticed, other], 600).values()))
endless = mutate.Mutant("losses.py", tests, "import torch\\n", "import torch\\nwhile True: pass\\n")
mutate.SLOWER, mutate.MARGIN = 1, 1
print(list(mutate.try_mutants([endless], 600).values()))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert "\n['failed', 'passed']\n" in done.stdout, done.stdout + done.stderr
    assert done.stdout.endswith("\n['too slow']\n"), done.stdout + done.stderr
