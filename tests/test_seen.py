"""What a generator saw: lists beside the images, refused trials, findings, and what a classifier is not judged on."""
import pandas as pd
import pytest

import gilt
from conftest import write_study
from gilt.data.seen import refuse_seen, seen_hashes, seen_rows
from gilt.engine.judge import judged_rows, memory
from gilt.errors import TableError


def with_saw(table, hashes, *, name="saw.txt", origin=None):
    """Return the table whose made rows name a list of these hashes, written beside the images."""
    (table.root / name).write_text("".join(f"{digest}\n" for digest in hashes))
    made = table.frame["origin"] != "real" if origin is None else table.frame["origin"] == origin
    return table.with_column("saw", [name if is_made else None for is_made in made])


@pytest.fixture
def dealt(birds, tmp_path):
    """The birds, dealt, under a root of their own where lists can be written."""
    return gilt.ImageTable(birds.frame.assign(path=[str(path) for path in birds.paths]), tmp_path)


def test_a_generator_that_saw_training_rows_only_is_welcome(dealt):
    table = with_saw(dealt, dealt.where(split="train").real.frame["sha256"])
    assert seen_rows(table) == {}
    refuse_seen(table)
    assert len(seen_hashes(table)) == len(dealt.where(split="train").real)


def test_rows_that_a_generator_saw_are_refused_with_their_number_and_a_remedy(dealt):
    test = dealt.where(split="test").real.frame["sha256"]
    val = dealt.where(split="val").real.frame["sha256"]
    table = with_saw(dealt, [*test[:3], val.iloc[0]])
    masks = seen_rows(table)["painter"]
    assert (int(masks["test"].sum()), int(masks["val"].sum())) == (3, 1)
    with pytest.raises(TableError, match=rf"'painter' was trained on 3 of the {len(dealt.where(split='test')):,} test rows and "
                                         r"1 of the .* val rows.*gilt split.*generators = \[\.\.\.\] without 'painter'"):
        refuse_seen(table)


def test_a_generator_whose_images_are_not_training_rows_harms_nothing(dealt):
    table = with_saw(dealt, dealt.where(split="test").real.frame["sha256"])
    refuse_seen(table.where(lambda frame: (frame["origin"] == "real") | (frame["split"] != "train")))


def test_each_generator_is_asked_for_its_own_list(dealt):
    twin = dealt.frame[dealt.frame["origin"] == "painter"].assign(origin="copyist")
    table = gilt.ImageTable(pd.concat([dealt.frame, twin], ignore_index=True), dealt.root)
    table = with_saw(table, dealt.where(split="test").real.frame["sha256"], origin="copyist")
    assert list(seen_rows(table)) == ["copyist"]


def test_a_list_that_is_gone_or_holds_something_else_is_said(dealt):
    table = with_saw(dealt, [])
    (dealt.root / "saw.txt").unlink()
    with pytest.raises(TableError, match=r"saw\.txt is gone"):
        seen_rows(table)
    table = with_saw(dealt, ["../../etc/passwd"])
    with pytest.raises(TableError, match=r"lists something else than SHA-256, such as '\.\./\.\./etc/passwd'"):
        seen_rows(table)


def test_a_list_that_was_written_anew_is_read_anew(dealt):
    test = list(dealt.where(split="test").real.frame["sha256"])
    assert len(seen_rows(with_saw(dealt, test[:1]))["painter"]) == 1
    assert seen_rows(with_saw(dealt, [])) == {}


def test_the_audit_finds_what_a_generator_saw(dealt):
    test = dealt.where(split="test").real
    finding = gilt.audit(with_saw(dealt, test.frame["sha256"]), checks=["seen"]).findings[0]
    assert (finding.severity, finding.details["split"], finding.details["images"]) == ("high", "test", len(test))
    assert set(finding.rows) == set(test.frame["path"])
    assert 0 < finding.score <= 1
    val = dealt.where(split="val").real.frame["sha256"]
    assert gilt.audit(with_saw(dealt, val), checks=["seen"]).findings[0].severity == "medium"


def test_the_audit_says_why_it_did_not_look(dealt, bird_table):
    assert gilt.audit(dealt, checks=["seen"]).skipped == {"seen": "no row says what its generator saw (column saw)"}
    undealt = with_saw(dealt.with_column("split", None), [])
    assert gilt.audit(undealt, checks=["seen"]).skipped == {"seen": "no row has a split yet"}


def test_a_study_refuses_a_generator_that_saw_its_test_rows_before_any_work(dealt, tmp_path):
    table = with_saw(dealt, dealt.where(split="train").real.frame["sha256"])
    table.save(tmp_path / "birds.parquet")
    study = write_study(tmp_path / "birds.toml", tmp_path / "birds.parquet", seeds=(0,), epochs=1)
    records = gilt.run_study(gilt.Study.load(study), tmp_path / "runs")
    assert {record.state for record in records} == {"finished"}
    study.write_text(study.read_text().replace("[base.train]", "[base.split]\nkeep = false\n\n[base.train]").replace(
        "seeds = [0]", "seeds = [3]"))
    with pytest.raises(TableError, match=r"(ai|aug).*the generator 'painter' was trained on \d+ of the \d+ test rows"):
        gilt.run_study(gilt.Study.load(study), tmp_path / "others")


def test_a_classifier_remembers_what_the_generators_of_its_rows_saw(dealt):
    test = dealt.where(split="test").real
    table = with_saw(dealt, test.frame["sha256"][:2])
    trial = gilt.TrialConfig(mix=gilt.MixConfig(mode="add"), train=gilt.TrainConfig(model="lenet5", epochs=1))
    rows = gilt.mix(table, trial.mix)
    classifier = gilt.train(rows, trial.train)
    classifier.provenance |= memory(table, rows, trial)
    assert len(judged_rows(classifier, table)) == len(test) - 2
