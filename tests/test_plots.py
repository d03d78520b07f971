"""The pictures of a study's report."""
import re
from types import SimpleNamespace

from gilt.reports.plots import APART, COLOURS, OTHERS, STYLES, learning_curves, pens_of


def trial(arm, epochs=3):
    history = [{"train_loss": 1 / epoch, "val_accuracy": epoch / 10} for epoch in range(1, epochs + 1)]
    return SimpleNamespace(arm=arm, history=history, config={"train": {"steps": None, "batch_size": 10}})


def thick(picture):
    """Dashes and colour of each thick line."""
    return re.findall(r'style="fill: none; (?:stroke-dasharray: ([\d., ]+); stroke-dashoffset: 0; )?stroke: (#\w+); '
                      r"stroke-width: 2[;\"]", picture.replace("stroke-linecap: square", ""))


def test_many_arms_have_lines_of_their_own_and_a_legend_below_the_axes():
    arms = [f"arm-{i}" for i in range(APART)]
    picture = learning_curves([trial(arm) for arm in arms])
    assert len(set(thick(picture))) == len(arms)
    places = {name: float(y) for y, name in re.findall(r'y="([\d.]+)"[^<]*>(arm-\d+|epoch)</text>', picture)}
    assert {*places} == {*arms, "epoch"}
    assert min(places[arm] for arm in arms) > places["epoch"]
    assert len(set(pens_of(len(COLOURS) * len(STYLES)))) == len(COLOURS) * len(STYLES)


def test_of_too_many_arms_the_strong_ones_have_colours_and_the_others_are_said_to_be_grey():
    arms = [f"arm-{i}" for i in range(APART + 9)]
    picture = learning_curves([trial(arm) for arm in arms], strong=["arm-20", "arm-3"])
    assert len(set(thick(picture))) == 2
    assert re.findall(r">(arm-\d+|other arms[^<]*)</text>", picture) == ["arm-3", "arm-20", OTHERS]


def test_an_arm_of_one_epoch_is_a_point_that_can_be_seen():
    assert learning_curves([trial("svm", 1)]).count("<use ") > learning_curves([trial("svm", 2)]).count("<use ")
