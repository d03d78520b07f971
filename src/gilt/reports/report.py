"""Report: a study's records to one self-contained HTML page, which opens without a network and drills down to single images.

What stands on top is in `notices.py`, an arm's section in `drill.py`, the table in the thesis's form in `arms.py`.
"""
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gilt.config import TrialConfig
from gilt.data.mix import ordered
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, GiltError, StoreError
from gilt.reports.arms import anchors, arm_rows, markdown, thesis_table
from gilt.reports.changes import changes_picture, points
from gilt.reports.drill import Sections, arm_sections, most_changed
from gilt.reports.notices import audited, notices
from gilt.reports.once import Once
from gilt.reports.pages import write_page
from gilt.reports.plots import APART, effects_forest, learning_curves, p_text, sample_sheet
from gilt.reports.tuning import tuning_report
from gilt.reports.worth import worth_section
from gilt.studies.best import best_sentences, best_sets
from gilt.studies.class_changes import class_changes, class_sentences
from gilt.studies.compare import Effect, compare, effect_rows, verdicts
from gilt.studies.plan import plan_sentences
from gilt.studies.published import how_it_differs, published_rows, published_table
from gilt.studies.regret import regret_rows, regret_sentences, regrets
from gilt.studies.store import Store, TrialRecord
from gilt.studies.worth import Worth, worth
from gilt.studies.worth_words import arm_sentence, control_sentence

__all__ = ["arm_rows", "markdown", "report", "thesis_table"]
SAMPLE_CLASSES, SAMPLES = 10, 5


def report(store: Store | Path | str, *, to: Path | str | None = None, root: Path | str | None = None) -> Path:
    """Write the report of a study's store to `to` (default: report.html in the store) and return its path.

    `root` says where the table's images are now, if they moved; without them the page has every number, and no pictures.
    The first report audits the study's table, which takes a while; what it found is kept in the store.
    Raises StoreError where the folder holds no study, or no trial is finished yet.
    """
    store = store if isinstance(store, Store) else Store(store)
    if store.summary["kind"] == "tuning":
        return tuning_report(store, to=to)
    store = Once(store)
    finished = [record for record in store.records() if record.state == "finished"]
    if not finished:
        raise StoreError(f"no trial of {store.address} is finished yet: run gilt study run again")
    path = Path(to) if to else store.folder / "report.html"
    write_page(path, "report.html", **_page(store, finished, _root(store, root)))
    if to is None:
        store.publish(path.name)
    return path


def _page(store: Store, finished: Sequence[TrialRecord], root: Path | None) -> dict[str, Any]:
    """Return all that the template shows."""
    summary, links = store.summary, anchors(store.summary["arms"])
    benchmark, metric = summary["benchmark"], summary["metric"]
    effects = compare(store, benchmark, metric=metric) if benchmark else []
    said = verdicts(store, benchmark, metric=metric)
    value, no_worth = _worth(store)
    changes, lost, arms = class_changes(store), regrets(store), arm_rows(summary, finished)
    published, found = published_rows(store), audited(store, root)
    by_arm = {effect.arm: [sentence] for effect, sentence in zip(effects, said[1:], strict=False)}
    for arm, sentence in _worth_sentences(value).items():
        by_arm.setdefault(arm, []).append(sentence)
    sections = arm_sections(Sections(store, store.records(), changes, by_arm, root))
    return {
        "study": summary, "links": links, "metric": metric, "trials": finished, "p_text": p_text, "points": points,
        "notices": notices(found, value, store.records(), store.missing()), "audited": found.sentence,
        "lead": said[:1], "answers": said[1:1 + len(effects)], "cautions": said[1 + len(effects):],
        "best": best_sentences(store, metric=metric), "planned": plan_sentences(effects), "no_worth": no_worth,
        "worth": worth_section(value) | {"worth_alarms": []} if value else None,
        "arms": arms, "table": thesis_table(arms, benchmark), "effects": effects, "effect_table": effect_rows(effects),
        "forest": effects_forest(effects, benchmark, links=links) if effects else "",
        "curves": learning_curves(finished, strong=_strong(store, effects)), "grey": len(arms) > APART,
        "changes": changes_picture(changes, links), "change_rows": _change_rows(changes),
        "change_said": class_sentences(changes), "regrets": regret_rows(lost), "regret_said": regret_sentences(lost),
        "published": published_table(published), "differs": how_it_differs(store) if published else [],
        "sections": sections, "pictured": any(p["uri"] for s in sections for g in s["groups"] for p in g["gained"] + g["lost"]),
        "samples": _samples(summary, finished, root), "left_out": _left_out(finished), "machines": _machines(finished),
        "versions": sorted({record.gilt for record in finished}), "command": _command(summary, store), "address": store.address}


def _worth(store: Store) -> tuple[Worth | None, str]:
    """Return the study's worth, or why it has none."""
    try:
        return worth(store), ""
    except ConfigError as error:
        return None, str(error)


def _worth_sentences(value: Worth | None) -> dict[str, str]:
    """Return arm -> what its generated images are worth, in a sentence."""
    return {arm.arm: (control_sentence if arm.control else arm_sentence)(arm, setting)
            for setting in (value.settings if value else ()) for arm in setting.arms}


def _strong(store: Store, effects: Sequence[Effect]) -> list[str]:
    """Return the arms that stand out where there are too many: the benchmark, those that may be best, the largest effects."""
    best = [tested.arm for found in best_sets(store, metric=store.summary["metric"]) for tested in found.arms[:4]]
    by_size = [effect.arm for effect in sorted(effects, key=lambda effect: -abs(effect.mean))]
    return list(dict.fromkeys([store.summary["benchmark"], *best, *by_size]))


def _change_rows(changes: Sequence[Any]) -> list[Any]:
    """Return the changes that the table lists: of each arm, the classes that it helped most and hurt most."""
    arms = dict.fromkeys(change.arm for change in changes)
    return [change for arm in arms for change in most_changed([c for c in changes if c.arm == arm])]


def _root(store: Store, root: Path | str | None) -> Path | None:
    """Return where the images are: where the caller says, else where they were when the study was run."""
    known = root or store.summary.get("root")
    return Path(known) if known else None


def _samples(summary: Mapping[str, Any], finished: Sequence[TrialRecord], root: Path | None) -> str:
    """Return the sheet of real beside generated images of the most common classes, or "" without the images."""
    try:
        config = TrialConfig.model_validate(finished[0].config)
        table = ImageTable.load(summary["table"], root=root).usable.pick(config.classes, config.generators)
    except GiltError:
        return ""
    counts = table.counts("class")
    if not table.root.exists() or not counts:
        return ""
    classes = sorted(sorted(counts, key=lambda name: -counts[name])[:SAMPLE_CLASSES])
    return sample_sheet({name: {origin: ordered(table.where(class_=name, origin=origin), 0).paths[:SAMPLES]
                                for origin in table.origins} for name in classes})


def _left_out(finished: Sequence[TrialRecord]) -> dict[str, int]:
    """Return reason -> the most rows that any trial left out for it."""
    worst: dict[str, int] = {}
    for record in finished:
        for reason, count in (record.left_out | record.choice.get("left_out", {})).items():
            worst[reason] = max(worst.get(reason, 0), count)
    return worst


def _machines(finished: Sequence[TrialRecord]) -> list[str]:
    """Return what the trials ran on, one line a kind of machine; where there are several, with the number of trials."""
    kinds = Counter(", ".join(f"{machine[name]}{unit}" for name, unit in (
        ("processor", ""), ("cores", " cores"), ("threads", " in use"), ("device", ""), ("precision", ""))
        if machine.get(name) is not None)
        + f", Python {machine.get('python', '?')}, torch {machine.get('torch', '?')}"
        for machine in (record.machine for record in finished))
    return [kind if len(kinds) == 1 else f"{kind} ({count:,} trials)" for kind, count in kinds.most_common()]


def _command(summary: Mapping[str, Any], store: Store) -> str:
    words = ["gilt", "study", "run", summary["source"], "--store", store.address, *summary.get("options", [])]
    for setting in summary["settings"]:
        words += ["--set", setting]
    return shlex.join(words)
