"""Mix: make training sets of real and generated rows. Test rows are never touched.

Three modes, which ask three questions (`docs/methods.md`):

    share     a set whose generated part is `share`, as large as the rows allow, or `total` rows
    add       all real rows + m generated          what do I gain by adding?
    replace   n - m real + m generated, n fixed    what do I lose by saving on photographs?

Rows come from one seeded, class-balanced order of the real rows and one of the generated ones, so that under one seed
every arm starts from the same photographs and a smaller set lies inside a larger one. Before that, photographs may be
thinned out to make classes uneven; after it, the set may be balanced (`gilt.data.balance`). Rows of known worth may pose as
generated (`gilt.data.controls`). Generated rows may be left out for what they are (`gilt.data.choose`) before any are taken.
"""
from collections.abc import Callable

from gilt.config import REAL, BalanceConfig, MixConfig
from gilt.data.balance import balanced, balanced_by, put_back, thinned
from gilt.data.controls import candidates, joined, own_only, posed
from gilt.data.order import ordered
from gilt.data.table import ImageTable
from gilt.errors import ConfigError, TableError
from gilt.training import detects

Chooser = Callable[[ImageTable, ImageTable], ImageTable]  # photographs, generated rows -> those that may be taken


def mix(table: ImageTable, config: MixConfig | None = None, *, target: str = "class", seed: int = 0,
        chooser: Chooser | None = None, **settings: object) -> ImageTable:
    """Return the rows that a trial uses: a mixed train, the asked kind of val, and test (for target `class` real,
    unless `test="generated"`).

    `settings` are MixConfig's fields by name: `mix(table, mode="add", generated=400)`.
    `chooser` does what `choose` asks for, which needs a look at the images: see `gilt.engine.choose`.
    Raises TableError where a set comes out empty, or more generated rows are asked for than there are.
    """
    config = config or MixConfig(**settings)  # type: ignore[arg-type]
    if config.choose and (chooser is None or target != "class"):
        raise ConfigError("mix.choose looks at images, and this mix reads rows only: call gilt.mix" if target == "class" else
                          "mix.choose asks what images show, and the target is the origin: set target='class', or leave it out")
    rows = table.usable
    train = _train_rows(rows, config, target, seed, chooser)
    share = len(train.generated) / len(train) if config.val_share is None else config.val_share
    val = _val_rows(rows.where(split="val"), config.val or ("real" if target == "class" else "mix"), share, seed, target)
    test = rows.where(split="test")
    if target == "class":
        test = test.generated if config.test == "generated" else test.real
    if config.control:  # rows pose under other origins, and copies under the same path
        return joined(rows.where(lambda frame: frame["path"].isin({*val.frame["path"], *test.frame["path"]})), train)
    keep = {*train.frame["path"], *val.frame["path"], *test.frame["path"]}
    return put_back(rows.where(lambda frame: frame["path"].isin(keep)), train)


def _train_rows(rows: ImageTable, config: MixConfig, target: str, seed: int, chooser: Chooser | None) -> ImageTable:
    """Return the training rows that the mix takes of those at hand, balanced where it asks for that."""
    train = rows.where(split="train")
    real, generated = ordered(thinned(train.real, config, seed), seed), ordered(train.generated, seed)
    if config.control:
        generated = candidates(real, generated, config)
    real = real.take(slice(0, config.max_real))
    if config.own_sources:
        generated = own_only(generated, real)
    if config.choose and chooser:
        generated = _chosen(real, generated, config, target, chooser)
    generated = generated.take(slice(0, config.max_generated))
    n_real, n_generated = len(real), len(generated)
    if config.balance != "generated":  # which counts the generated rows out by itself
        n_real, n_generated = _sizes(config, n_real, n_generated, target)
    if n_real + n_generated == 0:
        raise TableError(f"this mix leaves no training row: {len(real)} real and {len(generated)} generated rows are at "
                         f"hand, and {_said(config)} takes none of them"
                         + ("" if len(rows.real) else " (no origin in the table means real)"))
    if config.control:
        return posed(real.take(slice(0, n_real)), generated, config, count=n_generated, seed=seed)
    keep = {*real.take(slice(0, n_real)).frame["path"], *generated.take(slice(0, n_generated)).frame["path"]}
    chosen = train.where(lambda frame: frame["path"].isin(keep))
    if (column := balanced_by(train)) and len(chosen) < len(train):
        raise TableError(f"the table's {len(train):,} training rows are balanced together (column {column!r}), and "
                         f"{_said(config)} takes {len(chosen):,} of them: mix first and balance then, or take all (mode 'add')")
    if config.balance is None:
        return chosen
    return balanced(chosen, BalanceConfig(method=config.balance, degree=config.degree), target=target, seed=seed)


def _chosen(real: ImageTable, generated: ImageTable, config: MixConfig, target: str, chooser: Chooser) -> ImageTable:
    """Return the generated rows that may be taken, chosen beside the photographs that the mix takes, and no others.

    A mode that replaces photographs compares with those that stay. How many a share as large as the rows allow takes is not
    known before the choice: it compares with those that it would take if nothing was left out.
    """
    n_real = len(real)
    if config.balance != "generated":
        n_real, wanted = _sizes(config, len(real), len(generated.take(slice(0, config.max_generated))), target)
        if not wanted:  # no generated row is taken: there is nothing to choose
            return generated
    return chooser(real.take(slice(0, n_real)), generated)


def share_name(n_real: int, n_generated: int) -> str:
    """Return the thesis's name of a training set: Real, AI, or Aug(fake-real) in per cent."""
    if not n_generated:
        return "Real"
    if not n_real:
        return "AI"
    fake = round(100 * n_generated / (n_real + n_generated))
    return f"Aug({fake}-{100 - fake})"


def _sizes(config: MixConfig, real: int, generated: int, target: str) -> tuple[int, int]:
    """Return how many real and generated training rows this mix takes of those at hand."""
    if config.mode == "share":
        return _share_sizes(config, real, generated, target)
    if config.generated is not None:
        wanted = config.generated
    elif config.share is None:
        wanted = generated
    elif config.mode == "replace":
        wanted = round(config.share * real)
    else:
        wanted = round(real * config.share / (1 - config.share)) if config.share < 1 else generated
    _enough(wanted, generated, "generated", config)
    if config.mode == "add":
        return real, wanted
    _enough(wanted, real, "real", config)
    return real - wanted, wanted


def _share_sizes(config: MixConfig, real: int, generated: int, target: str) -> tuple[int, int]:
    share = config.share
    if share is None:
        if detects(target) and config.total is None:
            return real, generated
        share = 0.5 if detects(target) else 0.0
    if share in (0.0, 1.0):
        most = generated if share else real
        total = config.total or most
        _enough(total, most, "generated" if share else "real", config)
    else:
        total = config.total or int(min(real / (1 - share), generated / share) + 1e-9)
        _enough(round(total * share), generated, "generated", config)
        _enough(total - round(total * share), real, "real", config)
    n_generated = round(total * share)
    return total - n_generated, n_generated


def _enough(wanted: int, there: int, kind: str, config: MixConfig) -> None:
    if wanted > there:
        raise TableError(f"{_said(config)} asks for {wanted:,} {kind} training rows; there are {there:,}"
                         f"{' after mix.choose' if config.choose and kind == 'generated' else ''}. "
                         "Ask for fewer, or leave the number out to take what the rows allow")


def _said(config: MixConfig) -> str:
    fields = config.model_dump(exclude_none=True, exclude={"val", "val_share", "test", "balance", "degree", "choose"})
    return "mix " + ", ".join(f"{name}={value}" for name, value in fields.items() if value is not False)


def _val_rows(val: ImageTable, kind: str, share: float, seed: int, target: str) -> ImageTable:
    """Return the validation rows of the asked kind; `mix` has the training set's generated part."""
    real, generated = ordered(val.real, seed), ordered(val.generated, seed)
    if kind == "real":
        chosen = real
    elif kind == "generated":
        chosen = generated
    elif detects(target):
        chosen = val
    elif share in (0.0, 1.0):
        chosen = generated if share else real
    else:
        total = int(min(len(real) / (1 - share), len(generated) / share) + 1e-9)
        n_generated = round(total * share)
        chosen = val.where(lambda frame: frame["path"].isin(
            {*real.take(slice(0, total - n_generated)).frame["path"],
             *generated.take(slice(0, n_generated)).frame["path"]}))
    if len(val) and not len(chosen):
        have = f"{len(val.real)} real and {len(val.generated)} generated"
        raise TableError(f"mix.val={kind!r} finds no validation row: the val split holds {have}. A generated image "
                         f"follows its source ({REAL} rows of train make generated rows of train); choose another "
                         "mix.val, or deal the rows anew with split.keep=false")
    return chosen
