"""The settings of training do what they say: schedules, stopping, the running mean, penalties, what is frozen."""
import math

import pytest
import torch
from torch import nn

import gilt
from gilt.engine.average import Average
from gilt.engine.best import Best
from gilt.engine.epochs import number_of_steps
from gilt.engine.groups import blocks, freeze, learning_groups, reached
from gilt.engine.learner import Learner
from gilt.engine.optim import hits, loss_of, make_optimizer
from gilt.engine.schedule import Schedule
from gilt.engine.train import rehearse
from gilt.models.zoo import create

# no norm and no dropout: with no learning rate to speak of, val comes to the same in each epoch
STILL = {"model": "thesis1", "image_size": 24, "batch_size": 14, "optimizer": "sgd", "learning_rate": 1e-30,
         "precision": "float32"}
SMALL = {"model": "lenet5", "batch_size": 14, "epochs": 4, "device": "cpu"}


def config(**settings):
    return gilt.TrainConfig(**settings)


def rates(steps, *, per_epoch=10, figures=(), **settings):
    """Return the rate of each step, with the monitored `figures` told after each epoch."""
    layer = nn.Linear(2, 1)
    made = config(**settings)
    optimizer = make_optimizer(learning_groups(layer, made), made)
    schedule, found, figures = Schedule(optimizer, made, steps=steps, per_epoch=per_epoch), [], list(figures)
    for step in range(1, steps + 1):
        found.append(schedule.rate)
        layer(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        schedule.after_step(step)
        if step % per_epoch == 0:
            schedule.after_epoch(step, figures.pop(0) if figures else None)
    return found


def test_a_constant_rate_stays_and_a_warm_up_rises_to_it_step_by_step():
    assert rates(5, learning_rate=0.1) == [0.1] * 5
    assert rates(8, learning_rate=0.1, warmup=0.5) == pytest.approx([0.02, 0.04, 0.06, 0.08] + [0.1] * 4)


def test_a_cosine_is_torchs_after_the_warm_up():
    weight = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    theirs, expected = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 20), []
    for _ in range(20):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    found = rates(25, learning_rate=0.1, warmup=0.5, schedule="cosine", optimizer="sgd")
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert found[5:] == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_one_cycle_has_its_peak_at_the_learning_rate(optimizer):
    found = rates(20, learning_rate=0.1, schedule="one_cycle", optimizer=optimizer)
    assert found[0] == pytest.approx(0.1 / 25)
    assert max(found) == found[5] == pytest.approx(0.1)
    assert found[-1] < 1e-5


def test_a_plateau_lowers_the_rate_after_so_many_epochs_without_a_better_figure():
    figures = [1.0, 0.5, 0.5, 0.6, 0.5, 0.4, 0.4]
    found = rates(14, per_epoch=2, figures=figures, learning_rate=0.1, schedule="plateau", plateau_patience=3,
                  plateau_factor=0.5)[::2]
    assert found == pytest.approx([0.1] * 5 + [0.05] * 2)
    higher = rates(6, per_epoch=2, figures=[0.5, 0.9, 0.8], learning_rate=0.1, schedule="plateau", plateau_patience=1,
                   monitor="val_accuracy", warmup=1)
    assert higher[::2] == pytest.approx([0.05, 0.1, 0.1])


def test_a_warm_up_longer_than_the_training_is_refused(birds):
    with pytest.raises(gilt.ConfigError, match=r"are 20 steps, and the whole training has 20: give less"):
        rates(20, learning_rate=0.1, warmup=2)
    with pytest.raises(ValueError, match=r"train.warmup=30 epochs leave nothing of train.epochs=3"):
        config(epochs=3, warmup=30)
    with pytest.raises(ValueError, match="has its own warm-up"):
        config(schedule="one_cycle", warmup=1)


@pytest.mark.parametrize("settings, part", [
    ({"momentum": 0.5}, "train.momentum belongs to train.optimizer='sgd'"),
    ({"plateau_patience": 3}, "train.plateau_patience belongs to train.schedule='plateau'"),
    ({"frozen": True, "layer_decay": 0.5}, "leave train.layer_decay out"),
    ({"frozen": True, "freeze": "conv1"}, "leave train.freeze out")])
def test_settings_that_would_do_nothing_are_refused(settings, part):
    with pytest.raises(ValueError, match=part):
        config(**settings)


def test_the_history_says_the_rate_and_a_plateau_is_one_of_val(birds):
    made = config(**STILL, epochs=5, schedule="plateau", plateau_patience=2)
    history = gilt.train(birds, made).history
    assert [epoch["learning_rate"] for epoch in history] == pytest.approx([1e-30] * 3 + [1e-31] * 2)
    constant = gilt.train(birds, config(model="lenet5", epochs=1))
    assert constant.history[0]["learning_rate"] == 1e-3


def test_early_stopping_ends_the_training_and_says_why(birds):
    ticks = []
    classifier = gilt.train(birds, config(**STILL, epochs=50, early_stopping=2), progress=ticks.append)
    assert len(classifier.history) == 3
    assert classifier.provenance["stopped"] == "no better val_loss in 2 epochs"
    assert classifier.provenance["kept_epoch"] == 3
    assert ticks[-1].step == ticks[-1].steps  # whoever draws the line is told that it is the last
    assert ticks[-1].left == 0
    assert gilt.train(birds, config(**STILL, epochs=2, early_stopping=2)).provenance["stopped"] == "all 12 steps done"


@pytest.mark.parametrize("keep, monitor, lowest", [
    ("best", "val_loss", True), ("best", "val_accuracy", False), ("val_accuracy", "val_loss", False)])
def test_the_best_epochs_weights_are_kept_and_of_equals_the_first(birds, keep, monitor, lowest):
    """A rate far too large makes every epoch a throw of dice, so the last is rarely the best."""
    made = config(**SMALL | {"epochs": 8}, learning_rate=0.1, optimizer="sgd", precision="float32", keep=keep, monitor=monitor)
    classifier = gilt.train(birds, made, seed=2)
    figure = "val_loss" if lowest else "val_accuracy"
    figures = [epoch[figure] for epoch in classifier.history]
    best = (min if lowest else max)(figures)
    assert classifier.provenance["kept_epoch"] == 1 + figures.index(best) < 8
    val = gilt.evaluate(gilt.predict(classifier, birds.where(split="val")))
    assert val.metrics["loss" if lowest else "accuracy"].value == pytest.approx(best, rel=0.02)


def test_the_first_of_equal_epochs_is_the_best_and_no_number_never_is():
    best = Best("val_accuracy")
    assert [best.see(epoch, value) for epoch, value in enumerate([math.nan, 0.5, 0.7, 0.7, math.nan, 0.6], 1)] == [
        False, True, True, False, False, False]
    assert best.epoch == 3
    lowest = Best("val_loss")
    assert [lowest.see(epoch, value) for epoch, value in enumerate([0.0, 0.0, -1.0], 1)] == [True, False, True]


@pytest.mark.parametrize("settings", [
    {"early_stopping": 2}, {"keep": "best"}, {"keep": "val_accuracy"}, {"schedule": "plateau"}])
def test_watching_val_rows_that_are_not_there_is_refused_before_training(birds, settings):
    made = config(**SMALL, **settings)
    with pytest.raises(gilt.ConfigError, match=r"watches the val rows, and there are none: deal some"):
        gilt.train(birds.where(split=["train", "test"]), made)
    with pytest.raises(gilt.ConfigError, match="there are none"):
        rehearse(made, 2, n_val=0)
    rehearse(made, 2, n_val=5)


def test_smoothing_is_the_same_for_one_output_as_for_two():
    out, labels = torch.randn(9, 1), torch.randint(2, (9,))
    pair = torch.cat([torch.zeros_like(out), out], 1)
    for smoothing in (0.0, 0.2):
        expected = nn.functional.cross_entropy(pair, labels, label_smoothing=smoothing)
        torch.testing.assert_close(loss_of(out, labels, smoothing=smoothing), expected)
        torch.testing.assert_close(loss_of(pair, labels, smoothing=smoothing), expected)


def test_soft_targets_that_are_whole_are_labels():
    labels, weights = torch.tensor([0, 1, 2, 1]), torch.tensor([0.5, 1.0, 1.5])
    for out in (torch.randn(4, 3), torch.randn(4, 1)):
        classes = max(out.shape[1], 2)
        hard = labels.clamp(max=classes - 1)
        soft = nn.functional.one_hot(hard, classes).float()
        for weights_C in (None, weights[:classes]):
            expected = loss_of(out, hard, weights_C, smoothing=0.1)
            torch.testing.assert_close(loss_of(out, soft, weights_C, smoothing=0.1), expected)
        assert hits(out, soft) == hits(out, hard)
    half = torch.tensor([[0.75, 0.25]])
    assert loss_of(torch.zeros(1, 1), half) == pytest.approx(math.log(2))
    assert hits(torch.tensor([[-1.0]]), half) == 1


def test_mixup_and_cutmix_train_with_both_kinds_of_output(birds):
    for loss in ("binary", "cross_entropy"):
        history = gilt.train(birds, config(**SMALL, loss=loss, augment=["mixup", "cutmix"])).history
        assert history[-1]["train_loss"] < 1
        assert history[-1]["val_accuracy"] >= 0


def test_the_running_mean_follows_the_weights_and_the_norms_alike():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average, expected = Average(network, 0.5), network[0].weight.detach().clone()
    means = network[1].running_mean.clone()
    for step in range(1, 20):
        with torch.no_grad():
            network[0].weight += torch.randn_like(network[0].weight)
        network(torch.randn(3, 1, 2, 2))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network[0].weight.detach()
        means = decay * means + (1 - decay) * network[1].running_mean
    torch.testing.assert_close(average.network[0].weight, expected)
    torch.testing.assert_close(average.network[1].running_mean, means)
    assert average.network[1].num_batches_tracked == 19
    assert not any(weight.requires_grad for weight in average.network.parameters())


def test_with_a_running_mean_it_is_what_val_measures_and_what_is_kept(birds):
    made = config(**SMALL, ema=0.8, precision="float32")
    classifier = gilt.train(birds, made, seed=1)
    val = gilt.evaluate(gilt.predict(classifier, birds.where(split="val"))).metrics
    assert val["loss"].value == pytest.approx(classifier.history[-1]["val_loss"], rel=1e-4)
    plain = gilt.train(birds, made.model_copy(update={"ema": None}), seed=1)
    assert plain.history[-1]["train_loss"] == classifier.history[-1]["train_loss"]  # the training itself is the same
    assert plain.history[-1]["val_loss"] != classifier.history[-1]["val_loss"]
    assert not torch.equal(plain.network.conv1.weight, classifier.network.conv1.weight)


def one_step(network, images=None, **settings):
    """Return how far one step moves each weight."""
    before = {name: weight.detach().clone() for name, weight in network.named_parameters()}
    made = config(device="cpu", **settings)
    learner = Learner(network, made, precision=torch.float32, steps=1, per_epoch=1)
    torch.manual_seed(0)
    images = torch.rand(8, 3, 32, 32) if images is None else images
    learner.ready()
    learner.step(images, torch.arange(8) % 2, 1)
    return {name: weight.detach() - before[name] for name, weight in network.named_parameters()}, before


def fresh(name="lenet5", **settings):
    torch.manual_seed(1)
    return create(name, outputs=1, **settings)


def test_clipping_bounds_the_norm_of_the_gradient():
    moved, _ = one_step(fresh(), optimizer="sgd", momentum=0, learning_rate=1.0, gradient_clip=1e-3)
    assert torch.cat([change.flatten() for change in moved.values()]).norm() == pytest.approx(1e-3, rel=1e-3)
    free, _ = one_step(fresh(), optimizer="sgd", momentum=0, learning_rate=1.0)
    assert torch.cat([change.flatten() for change in free.values()]).norm() > 0.1


def test_weight_decay_draws_every_weight_to_nothing():
    plain, before = one_step(fresh(), optimizer="sgd", momentum=0, learning_rate=0.1)
    decayed, _ = one_step(fresh(), optimizer="sgd", momentum=0, learning_rate=0.1, weight_decay=0.5)
    for name, weight in before.items():
        torch.testing.assert_close(decayed[name], plain[name] - 0.1 * 0.5 * weight, rtol=1e-4, atol=1e-6)
    assert make_optimizer(learning_groups(fresh(), config(optimizer="adamw")), config(optimizer="adamw")).defaults[
        "weight_decay"] == 0.01


def test_a_penalty_that_a_layer_sets_is_part_of_the_loss():
    class Busy(nn.Module):
        def forward(self, features):
            self.penalty = 3 * features.sum() if self.training else None
            return features

    def network(*extra):
        torch.manual_seed(2)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 4), *extra, nn.Linear(4, 1))

    images = torch.rand(8, 3, 2, 2)
    plain, _ = one_step(network(), images, optimizer="sgd", momentum=0, learning_rate=1.0)
    penalised, _ = one_step(network(Busy()), images, optimizer="sgd", momentum=0, learning_rate=1.0)
    torch.testing.assert_close(penalised["1.bias"], plain["1.bias"] - 3 * 8)  # the bias is in the sum once an image
    torch.testing.assert_close(penalised["3.weight"], plain["2.weight"])


def test_frozen_layers_stay_as_they_are_with_their_norms(birds):
    made = config(**SMALL, freeze=["conv1", "norm"])
    torch.manual_seed(0)
    classifier = gilt.train(birds, made, seed=0)
    start = gilt.train(birds, made.model_copy(update={"freeze": (), "epochs": 1, "learning_rate": 1e-30, "optimizer": "sgd"}),
                       seed=0).network.state_dict()
    after = classifier.network.state_dict()
    assert torch.equal(after["conv1.weight"], start["conv1.weight"])
    assert torch.equal(after["norm1.weight"], start["norm1.weight"])
    assert not torch.equal(after["conv2.weight"], start["conv2.weight"])
    for name in ("norm1", "norm2"):  # neither their weights nor what they have seen of the images
        assert torch.equal(after[f"{name}.running_mean"], torch.zeros_like(after[f"{name}.running_mean"]))
    assert all(weight.requires_grad for weight in classifier.network.parameters())
    assert "61,285 parameters" in repr(classifier)


def test_a_star_freezes_all_but_the_last_layer():
    network = fresh()
    freeze(network, ["*"])
    assert [name for name, weight in network.named_parameters() if weight.requires_grad] == ["dense3.weight", "dense3.bias"]
    with pytest.raises(gilt.ConfigError, match="leaves nothing to learn"):
        freeze(fresh(), ["*", "dense3"])


@pytest.mark.parametrize("given, part", [
    ("conv7", r"train.freeze: 'conv7' is no layer of this network, nor does one begin so \(has: conv1, .*Did you mean 'conv"),
    ("pool1", r"train.freeze: 'pool1' has no weights \(has: conv1, ")])
def test_a_layer_that_is_not_there_is_named_with_the_choices(given, part):
    with pytest.raises(gilt.ConfigError, match=part):
        rehearse(config(model="lenet5", freeze=[given]), 2)


def test_a_name_reaches_a_layer_and_what_is_in_it_or_all_that_begin_so():
    network = nn.Sequential()
    for name in ("conv1", "conv10", "dense"):
        network.add_module(name, nn.Sequential(nn.Linear(2, 2)))
    assert reached(network, "conv1", "x") == ["conv1.0.weight", "conv1.0.bias"]
    assert len(reached(network, "conv", "x")) == 4
    assert reached(network, "conv10.0.bias", "x") == ["conv10.0.bias"]


def test_rates_multiply_the_learning_rate_and_the_longest_name_wins():
    made = config(optimizer="sgd", momentum=0, learning_rate=0.1, rates={"*": 0.1, "conv": 0.5, "conv2": 0.01})
    factors = {id(weight): group["factor"] for group in learning_groups(fresh(), made) for weight in group["params"]}
    assert sorted(set(factors.values())) == [0.01, 0.1, 0.5, 1.0]
    plain, _ = one_step(fresh(), optimizer="sgd", momentum=0, learning_rate=0.1)
    moved, _ = one_step(fresh(), optimizer="sgd", momentum=0, learning_rate=0.1, rates=made.rates)
    for name, factor in {"conv1": 0.5, "conv2": 0.01, "norm1": 0.1, "dense3": 1.0}.items():
        torch.testing.assert_close(moved[f"{name}.weight"], factor * plain[f"{name}.weight"], rtol=1e-3, atol=1e-7)


def test_layers_decay_block_by_block_from_the_last_down():
    network = fresh("resnet18", input_size=32)
    names = [members[0].rpartition(".")[0] for members in blocks(network)]
    assert names == ["body.conv1", "body.bn1", *(f"body.layer{i}.{j}.conv1" for i in range(1, 5) for j in range(2)), "body.fc"]
    groups = learning_groups(network, config(learning_rate=0.1, layer_decay=0.5))
    assert [group["lr"] for group in groups] == pytest.approx([0.1 * 0.5 ** depth for depth in range(10, -1, -1)])
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_every_weight_of_a_transformer_is_in_a_block():
    torchvision = pytest.importorskip("torchvision")
    network = nn.Sequential(torchvision.models.vit_b_16(image_size=32, num_classes=2))
    found = blocks(network)
    names = [name for members in found for name in members]
    assert sorted(names) == sorted(name for name, _ in network.named_parameters())
    assert "0.class_token" in found[0]


def test_steps_and_epochs_are_counted_in_batches():
    assert number_of_steps(config(epochs=3, batch_size=10), 42) == (15, 5)
    assert number_of_steps(config(steps=7, batch_size=10), 42) == (7, 5)


def test_an_epochs_listener_ends_the_training_by_raising(birds):
    heard = []

    def listen(epoch):
        heard.append(epoch)
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gilt.train(birds, config(**SMALL), on_epoch=listen)
    assert [epoch.epoch for epoch in heard] == [1, 2]
    assert heard[0].val_loss is not None
    with pytest.raises(TypeError, match="unexpected arguments: progres"):
        gilt.train(birds, config(**SMALL), progres=print)


def test_a_last_step_of_one_image_that_batch_norm_cannot_take_is_one_clear_line(birds, tmp_path):
    rows = len(gilt.mix(birds).where(split="train"))
    settings = config(model="resnet18", image_size=32, batch_size=rows - 1, epochs=1, device="cpu", precision="float32")
    with pytest.raises(gilt.ModelError, match=f"a step of one image.* train.batch_size other than {rows - 1}"):
        gilt.train(gilt.mix(birds), settings, cache=gilt.PixelCache(tmp_path))
