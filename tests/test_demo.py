"""The demo: the main job on the embedded sample, as a user runs it."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

import gilt
from gilt.data.sample import unpack_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    return unpack_sample(tmp_path_factory.mktemp("sample") / "images")


def test_the_sample_holds_what_its_page_says(sample):
    table = gilt.scan(sample, ["{origin}/{split}/{class}", "{origin}/{class}"])
    assert len(table.usable) == len(table) == 8000
    assert table.real.counts("split") == {"train": 3000, "val": 500, "test": 1500}
    assert table.counts("origin") == {"real": 5000, "flow-unet": 3000}
    assert len(table.classes) == 10
    assert set(table.generated.counts("class").values()) == {300}


def test_no_generated_image_is_a_copy_of_a_photograph(sample):
    table = gilt.scan(sample, ["{origin}/{split}/{class}", "{origin}/{class}"])
    assert not set(table.real.frame["sha256"]) & set(table.generated.frame["sha256"])


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_runs_from_nothing_to_a_report_and_resumes(tmp_path):
    command = [sys.executable, "-m", "gilt", "demo", "--to", tmp_path / "demo"]
    first = subprocess.run(command, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr
    page = first.stdout.strip().splitlines()[-1]
    assert Path(page).stat().st_size > 50_000
    shown = subprocess.run([sys.executable, "-m", "gilt", "study", "show", tmp_path / "demo" / "store", "--json"],
                           capture_output=True, text=True).stdout
    rows = json.loads(shown)
    assert len(rows) == 24
    assert {row["state"] for row in rows} == {"finished"}
    accuracy = {arm: sum(r["test_accuracy"] for r in rows if r["arm"] == arm) / 6 for arm in {r["arm"] for r in rows}}
    assert accuracy["real"] > 0.6  # ten classes: chance is 0.1
    assert accuracy["ai"] > 0.4
    again = subprocess.run(command, capture_output=True, text=True)
    assert "24 of 24 trials are finished already" in again.stderr
