"""The pictures of a study's report."""
import re
from types import SimpleNamespace

from gilt.reports.plots import COLOURS, STYLES, learning_curves


def trial(arm, epochs=3):
    history = [{"train_loss": 1 / epoch, "val_accuracy": epoch / 10} for epoch in range(1, epochs + 1)]
    return SimpleNamespace(arm=arm, history=history, config={"train": {"steps": None, "batch_size": 10}})


def test_many_arms_have_lines_of_their_own_and_a_legend_below_the_axes():
    arms = [f"arm-{i}" for i in range(len(COLOURS) * len(STYLES))]
    picture = learning_curves([trial(arm) for arm in arms])
    thick = re.findall(r'style="fill: none; (?:stroke-dasharray: ([\d., ]+); stroke-dashoffset: 0; )?stroke: (#\w+); '
                       r"stroke-width: 2[;\"]", picture.replace("stroke-linecap: square", ""))
    assert len(set(thick)) == len(arms)
    places = {name: float(y) for y, name in re.findall(r'y="([\d.]+)"[^<]*>(arm-\d+|epoch)</text>', picture)}
    assert {*places} == {*arms, "epoch"}
    assert min(places[arm] for arm in arms) > places["epoch"]


def test_an_arm_of_one_epoch_is_a_point_that_can_be_seen():
    assert learning_curves([trial("svm", 1)]).count("<use ") > learning_curves([trial("svm", 2)]).count("<use ")
