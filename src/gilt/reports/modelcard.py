"""The card of a saved model: what it is, what it learnt from, how it was judged, and what it cannot know.

All of it comes from the model's own file, and from predictions that were judged, where they are given.
"""
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gilt.config import REAL
from gilt.engine.judge import SEEN_DIGITS
from gilt.errors import ModelError, listed
from gilt.evaluation.attribution import NAMING
from gilt.evaluation.band import OUTCOMES
from gilt.evaluation.calibration import ALPHA
from gilt.evaluation.evaluate import evaluate
from gilt.evaluation.metrics import spoken
from gilt.evaluation.predictions import Predictions
from gilt.models.card import Facts, read_facts
from gilt.models.classifier import FORMAT, load_classifier
from gilt.reports.limits import EQUALISED, limits
from gilt.reports.pages import write_page
from gilt.settings import parse
from gilt.training import Calibration, Encoding

Lines = tuple[tuple[str, str], ...]
QUIET = ("recipe", "tensorboard", "device", "precision", "target", "model", "head", "arguments")  # said elsewhere, or no matter


@dataclass(frozen=True)
class Section:
    """A heading and its lines: (label, text); a sentence has an empty label."""

    heading: str
    lines: Lines


@dataclass(frozen=True)
class ModelCard:
    """What a model's file says, in sections; `warnings` are what a reader must not miss."""

    title: str
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def model_card(path: Path | str, *, judged: Mapping[str, Any] | None = None) -> ModelCard:
    """Return the card of a classifier or a generator; `judged` is what `judged_by` found, or else what the file itself holds.

    Raises ModelError where the file is none of gilt's.
    """
    facts = _facts(path)
    if facts.kind == "generator":
        return _generator(facts)
    card, known = facts.card, facts.card["provenance"]
    judged = judged or known.get("judged")
    detects, equal = card["target"] == "origin" and REAL in card["classes"], bool(card["preprocessing"].get("equal"))
    sections = [
        Section("What it is", _what(facts, "detector" if detects else "classifier")),
        Section("What goes in", _goes_in(card)), Section("What it learnt from", _learnt(card)),
        *([Section("What gave the origin away in its training table", _shortcuts(known, equal))] if detects else []),
        *([Section("How a verdict comes about", _verdict(card))] if detects else []),
        Section("How it was judged", (*_val(card), *_judged(judged))),
        Section("What it cannot know", tuple(("", line) for line in limits("detector" if detects else "classifier", known)))]
    warnings = [f"Trained with a shortcut ({one['severity']}): {one['meaning']}" for one in known.get("shortcuts", [])
                if one["severity"] != "low" and not equal]
    if detects and not card.get("calibration"):
        warnings.append("It has no validated threshold: 0.5 decides, and its probabilities are not calibrated.")
    if not judged:
        warnings.append("It says nothing of test images: gilt evaluate judges it, and gilt card --judged takes that in.")
    return ModelCard(facts.path.name, tuple(sections), tuple(warnings))


def _facts(path: Path | str) -> Facts:
    if Path(path).suffix != ".onnx":
        return read_facts(path)
    classifier, path = load_classifier(path), Path(path)
    data = path.read_bytes()
    return Facts(path, classifier.card | {"format": FORMAT}, {}, len(data), hashlib.sha256(data).hexdigest())


def judged_by(model: Path | str, predictions: Path | str) -> dict[str, Any]:
    """Return what saved predictions of `model` are worth, as plain values for its card.

    Raises ModelError where they are another model's, StoreError where the file holds none, TableError where none can be judged.
    """
    said, card = Predictions.load(predictions), _facts(model).card
    calibration = parse(Calibration, card["calibration"], where=str(model)) if card.get("calibration") else None
    if (tuple(card.get("classes", ())), card.get("target"), calibration) != (said.classes, said.target, said.calibration):
        raise ModelError(f"{predictions} are not predictions of {model}: their target is {said.target!r} and their classes are "
                         f"{listed(said.classes)}, or another threshold came with them. Make them with gilt evaluate -o")
    counts: dict[str, Any] = {"predictions": Path(predictions).name, "n": int(said.readable.sum())}
    if said.detects:
        from gilt.evaluation.detection import detection

        found = detection(said)
        metrics, counts = found.metrics, counts | {"n_real": found.n_real, "n_generated": found.n_generated}
        counts["generators"] = {name: {key: _plain(metric) for key, metric in values.items()}
                                for name, values in found.generators.items()}
        if found.undecided:
            counts["undecided"] = {name: _plain(metric) for name, metric in found.undecided.metrics.items()}
        if found.attribution:
            counts["attribution"] = {name: _plain(metric) for name, metric in found.attribution.metrics.items()}
    else:
        metrics = evaluate(said).metrics
    return counts | {"metrics": {name: _plain(metric) for name, metric in metrics.items()}}


def _plain(metric: Any) -> dict[str, Any]:
    return {"value": metric.value, "low": metric.low, "high": metric.high, "n": metric.n}


def write_card(card: ModelCard, *, to: Path | str) -> Path:
    """Write a card as one HTML page that opens offline, and return its path."""
    return write_page(to, "modelcard.html", card=card)


# -- the sections


def _what(facts: Facts, kind: str) -> Lines:
    card, known = facts.card, facts.card["provenance"]
    graph = facts.shapes.get("graph")
    weights = f"an ONNX graph of {graph[0]:,} bytes" if graph else f"{_numbers(facts):,} numbers" if facts.shapes else ""
    exported = f", exported from {known['exported_from']}" if "exported_from" in known else ""
    head = f", with a head {card['head']['kind']!r}" if card.get("head") else ""
    lines = [("kind", f"a {kind} of {listed(card['classes'])}"), ("network", f"{card['model']}{head}{exported}"),
             ("arguments", _pairs(card.get("arguments", {}))), ("weights", weights), ("about", known.get("about", "")),
             ("source", known.get("source", "")), ("licence", known.get("licence", "")),
             ("file", f"{facts.bytes:,} bytes, SHA-256 {facts.sha256}"), ("made by", f"gilt {known.get('gilt', '(not said)')}")]
    return tuple((label, text) for label, text in lines if text)


def _numbers(facts: Facts) -> int:
    total = 0
    for name, shape in facts.shapes.items():
        size = 1
        for side in shape:
            size *= side
        total += size if name != "seen" else 0
    return total


def _goes_in(card: Mapping[str, Any]) -> Lines:
    known = card["preprocessing"]
    if card["model"] == "metadata":
        return (("", "What a file says of itself: sizes, format, quality. No pixel."),)
    side = f"{known['size']}x{known['size']} pixels"
    shorter = f", once its shorter side has {known['shortest']} pixels" if known.get("shortest") else ", at its own resolution"
    fit = f"the middle of the image{shorter}" if known.get("fit") == "crop" else "the whole image, stretched"
    equal = (("made equal", f"first {Encoding.model_validate(known['equal'])}"),) if known.get("equal") else ()
    return (("image", f"RGB, {side}: {fit} ({known['resample']})"), *equal)


def _learnt(card: Mapping[str, Any]) -> Lines:
    known = card["provenance"]
    if known.get("trained") == "elsewhere":
        files = [(word, f"{known[f'{key}_from']}, SHA-256 {known[key]}") for word, key in (
            ("weights", "weights"), ("dense layer", "head")) if f"{key}_from" in known]
        return (("", "It was trained elsewhere: gilt does not know on which images, so it cannot leave them out of a test."),
                *files, *(("unverified", line) for line in known.get("unverified", ())))
    settings = {name: value for name, value in known.get("train", {}).items()
                if name not in QUIET and value not in (None, (), [], {}, False)}
    counts = {word: known[key] or 0 for word, key in (
        ("real images", "n_real"), ("generated images", "n_generated"), ("validation images", "n_val")) if key in known}
    prints = (("fingerprint", "source_table"), ("rows used", "table"))
    table = [f"{word} {known[key]}" for word, key in prints if known.get(key)]
    by = [f"{name} {count:,}" for name, count in known.get("n_by_class", {}).items()]
    lines = {**{word: f"{count:,}" for word, count in counts.items()}, f"by {card['target']}": listed(by, most=30),
             "table": ", ".join(table) or "not said",
             "seed": str(known.get("seed", "")), "settings": _pairs(settings),
             "weights to start from": f"SHA-256 {known['weights']}" if "weights" in known else "",
             "epochs": str(len(card["history"]) or ""), "machine": _pairs(known.get("machine") or {})}
    seen = len(known.get("seen", "")) // SEEN_DIGITS
    remembers = (("", f"It remembers the content of {seen:,} images, which gilt evaluate leaves out."),) if seen else ()
    return (*((label, text) for label, text in lines.items() if text), *remembers)


def _shortcuts(known: Mapping[str, Any], equal: bool) -> Lines:
    if known.get("trained") == "elsewhere":
        return (("", "Not known: its training images are not at hand."),)
    if "shortcuts" not in known:
        return (("", "Not looked for: only gilt train does so."),)
    found = known["shortcuts"]
    if not found:
        return (("", "Nothing that was looked for: format, size, quality, proportions."),)
    return (*((one["severity"], one["meaning"]) for one in found), *((("", EQUALISED),) if equal else ()))


def _verdict(card: Mapping[str, Any]) -> Lines:
    known = card.get("calibration")
    if not known:
        why = card["provenance"].get("no_threshold", "none was fitted, and none came along")
        return (("threshold", f"none: {why}. An image is called generated from 0.5 on; probabilities are the network's own"),)
    fitted = card["provenance"].get("calibrated_on", {})
    where = f"{known['seen_split']} of {fitted['name']}" if fitted.get("name") else known["seen_split"]
    return (("threshold", f"{known['threshold']:.4f}: from this probability on, an image is called generated"),
            *_uncertain(known), ("rule", known["rule"]),
            ("chosen on", f"{known['n']:,} images ({known['n_real']:,} real) of {where}"),
            ("calibration", f"temperature {known['temperature']:.4f}, bias {known['bias']:.4f} on the log-odds"),
            ("there it came to", f"accuracy {known['accuracy']:.3f}, balanced accuracy {known['balanced_accuracy']:.3f}, "
                                 f"false-positive rate {known['false_positive_rate']:.3f}"
                                 + ("; it was chosen on these very images, which flatters it a little"
                                    if known["seen_split"] == "val" else "")))


def _uncertain(known: Mapping[str, Any]) -> Lines:
    if not known.get("band"):
        return ()
    low, high = known["band"]
    return (("uncertain", f"from {low:.4f} to {high:.4f}: of images like those that chose it, {100 * ALPHA:.0f} % at most of "
                          "the real ones lie above on the mean, and of the generated ones below"),)


def _val(card: Mapping[str, Any]) -> Lines:
    history, known = card["history"], card["provenance"]
    if not history:
        return ()
    kept = history[min(known.get("kept_epoch", len(history)), len(history)) - 1]
    if kept.get("val_accuracy") is None:
        return (("val", "no validation images"),)
    return (("val", f"accuracy {kept['val_accuracy']:.3f} (n = {known.get('n_val', 0):,}) in epoch {kept['epoch']}, the one "
                    "kept: where val chose it, that flatters it"),)


def _judged(judged: Mapping[str, Any] | None) -> Lines:
    if not judged:
        return (("test", "not said: gilt evaluate -o PREDICTIONS, then gilt card --judged PREDICTIONS"),)
    sides = f", {judged['n_real']:,} real and {judged['n_generated']:,} generated" if "n_real" in judged else ""
    lines = [("judged on", f"{judged['n']:,} images{sides} ({judged['predictions']})")]
    lines += [(spoken(name), _metric(metric)) for name, metric in judged["metrics"].items() if metric["value"] is not None]
    for key, words in (("undecided", OUTCOMES), ("attribution", NAMING)):
        lines += [(words[name], _metric(metric)) for name, metric in judged.get(key, {}).items() if metric["value"] is not None]
    for generator, values in judged.get("generators", {}).items():
        lines.append((f"of {generator}", "; ".join(f"{spoken(name)} {_metric(metric)}" for name, metric in values.items()
                                                   if metric["value"] is not None)))
    return tuple(lines)


def _metric(metric: Mapping[str, Any]) -> str:
    between = f" [{metric['low']:.3f}, {metric['high']:.3f}]" if metric["low"] is not None else ""
    return f"{metric['value']:.3f}{between} (n = {metric['n']:,})"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _generator(facts: Facts) -> ModelCard:
    card, known = facts.card, facts.card["provenance"]
    config, seen = card["config"], facts.shapes.get("seen", (0,))[0]
    counts = listed((f"{name} {count:,}" for name, count in card["counts"].items()), most=30)
    settings = {name: value for name, value in config.items() if value not in (None, (), [], {}, False)
                and name not in ("kind", "size", "sample", "device", "precision")}
    last = card["history"][-1] if card["history"] else {}
    told = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in last.items()
            if isinstance(value, (int, float, str))}
    rest = {name: value for name, value in known.items() if isinstance(value, (int, float, str)) and name != "gilt"}
    sections = (
        Section("What it is", (
            ("kind", f"a generator of {listed(card['classes'])}"),
            ("network", f"{config['kind']}, {config['size']}x{config['size']} pixels, {card['mode']}"),
            ("weights", f"{_numbers(facts):,} numbers"), ("file", f"{facts.bytes:,} bytes, SHA-256 {facts.sha256}"),
            ("made by", f"gilt {known.get('gilt', '(not said)')}"))),
        Section("What it learnt from", (("images seen", f"{seen:,}"), ("by class", counts), ("settings", _pairs(settings)),
                                        *((name, str(value)) for name, value in rest.items()))),
        Section("How it was judged", tuple(told.items()) or (("", "not at all"),)),
        Section("What it cannot know", tuple(("", line) for line in limits("generator", known))))
    return ModelCard(facts.path.name, sections, ())
