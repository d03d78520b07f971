"""gilt tells generated images from real ones, and measures what generated images are worth as training data.

Every public name is loaded when it is first asked for, so `import gilt` is quick and needs no torch.
"""
import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "GiltError": "errors", "ConfigError": "errors", "LayoutError": "errors", "TableError": "errors",
    "ImageError": "errors", "ModelError": "errors", "StoreError": "errors", "MissingExtraError": "errors",
    "SplitConfig": "config", "MixConfig": "config", "TrainConfig": "config", "TrialConfig": "config",
    "Preprocessing": "config", "CleanConfig": "config", "BalanceConfig": "config", "HeadConfig": "training",
    "SimilarityConfig": "config", "ChooseConfig": "config", "FeaturesConfig": "config",
    "ImageTable": "data.table", "scan": "data.scan", "join": "data.join", "split": "data.split", "mix": "engine.choose",
    "audit": "data.audit", "Audit": "data.findings", "Finding": "data.findings", "clean": "data.clean",
    "folds": "data.split", "leave_one_generator_out": "data.split", "balance": "data.balance",
    "save_split": "data.splitfile", "apply_split": "data.splitfile", "verify_split": "data.verify", "SplitCheck": "data.verify",
    "overview": "data.overview", "show": "reports.collection", "PixelCache": "data.pixels",
    "list_models": "models.zoo", "create": "models.zoo", "adopt": "models.adopt", "recipes": "training",
    "Classifier": "models.classifier", "load_classifier": "models.classifier",
    "train": "engine.train", "predict": "engine.predict",
    "Predictions": "evaluation.predictions", "evaluate": "evaluation.evaluate", "Evaluation": "evaluation.evaluate",
    "Metric": "evaluation.metrics", "Calibration": "training", "fit_calibration": "evaluation.calibration",
    "p_generated": "evaluation.calibration", "decide": "evaluation.calibration",
    "detection": "evaluation.detection", "Detection": "evaluation.detection", "detection_page": "reports.detection",
    "explain": "engine.explain", "Explanation": "evaluation.explanation", "ExplainConfig": "evaluation.explanation",
    "explanation_page": "reports.explanation",
    "perturb": "data.perturb", "changes_of": "data.perturb", "robustness": "engine.robustness",
    "robustness_page": "reports.robustness", "leave_one_out": "studies.protocols", "chronological": "studies.protocols",
    "cross_collection": "studies.protocols", "run_protocol": "studies.protocols",
    "protocol_result": "studies.protocol_results", "protocol_page": "reports.protocol",
    "adopt_detector": "models.outside", "known_detectors": "models.outside", "export": "models.export",
    "model_card": "reports.modelcard", "write_card": "reports.modelcard",
    "Study": "studies.study", "Store": "studies.store", "TrialRecord": "studies.store",
    "run_study": "studies.runner", "Executor": "studies.executors", "presets": "studies.presets",
    "Tuning": "studies.tuning", "tune": "studies.tune",
    "compare": "studies.compare", "Effect": "studies.compare", "best_sets": "studies.best",
    "seeds_needed": "evaluation.significance", "published_rows": "studies.published", "across": "studies.across",
    "worth": "studies.worth", "heat_table": "studies.literature", "class_changes": "studies.class_changes",
    "image_changes": "studies.image_changes", "regrets": "studies.regret", "write_tables": "reports.tables",
    "similarity": "engine.similarity", "Similarity": "evaluation.similarity", "similarity_page": "reports.similarity",
    "train_generator": "generators.training", "load_generator": "generators.generator", "Generator": "generators.generator",
    "GeneratorConfig": "generators.config", "generate": "generators.sampling",
    "translate": "generators.translation", "TranslateConfig": "generators.config",
    "report": "reports.report", "judgement": "reports.judgement", "augment_preview": "reports.augmentations",
    "submission": "evaluation.submission", "worst_classes": "evaluation.mistakes", "confused_pairs": "evaluation.mistakes",
}
__all__ = sorted([*_HOMES, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'gilt' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gilt.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
