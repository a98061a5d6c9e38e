from __future__ import annotations

import pickle

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.errors import RecipeError
from benchmarks.paths import CATALOG
from benchmarks.recipe import (
    benchmark_ids,
    catalog_file,
    catalog_files,
    flatten,
    load_recipe,
    read_catalog_file,
    recipe_from_settings,
    summaries,
)
from benchmarks.recipe.layerwise import layer_activations, layer_weights
from benchmarks.recipe.settings import setting_text

SETTINGS = flatten(load_recipe("binaryconnect-mnist").settings)
# Digests that records hold. They never change: a new setting's default means its absence.
DIGESTS = {
    "binaryconnect-cifar10": "2efcd93c320ee387",
    "binaryconnect-cifar10-deterministic": "8425f36ad98a2dbd",
    "binaryconnect-cifar10-none": "b4559c3a808cb827",
    "binaryconnect-mnist": "324c1e048c6a5164",
    "binaryconnect-mnist-deterministic": "b0f0fc1ba1ce75d8",
    "binaryconnect-paper-mnist": "c8c576f06de96613",
    "binaryconnect-paper-mnist-deterministic": "70291f1d85b52486",
    "binaryconnect-paper-mnist-dropout": "a4b39da29fb76103",
    "binaryconnect-paper-mnist-none": "3de540d188bffcb8",
    "binaryconnect-svhn": "f21c38febbaf7b7f",
    "binaryconnect-svhn-deterministic": "8b3a7b23d8e40a11",
    "binaryconnect-svhn-none": "310caccae45f80f7",
    "binarynet-cifar10": "67c4a0de02d60ff5",
    "binarynet-mnist": "6790f49cdea5cde9",
    "binarynet-svhn": "7ff50baefbedeee7",
    "binarynet-torch7-cifar10": "e2b8ab5c11acba1a",
    "binarynet-torch7-mnist": "b0bf07c62c06b43a",
    "binarynet-torch7-svhn": "1814674181a1d9f5",
}


@pytest.mark.parametrize("benchmark_id", benchmark_ids())
def test_every_benchmark_loads_and_scores(benchmark_id):
    recipe = load_recipe(benchmark_id)
    assert recipe.scoring
    assert recipe.differences == []
    stored = msgspec.to_builtins(recipe.settings)  # without what is at a default that means its absence
    assert set(recipe.sources) >= {f"{group}.{key}" for group, part in stored.items() for key in part}
    assert all(source.strip() for source in recipe.sources.values())


@pytest.mark.parametrize(("benchmark_id", "digest"), DIGESTS.items())
def test_digests_of_older_records_stay(benchmark_id, digest):
    assert load_recipe(benchmark_id).digest[:16] == digest


@pytest.mark.parametrize("benchmark_id", benchmark_ids())
def test_a_setting_given_as_it_is_shown_is_the_setting(benchmark_id):
    published = load_recipe(benchmark_id)
    shown = flatten(published.settings)
    again = load_recipe(benchmark_id, [f"{key}={setting_text(shown[key])}" for key in published.sources if shown[key]])
    assert again.digest == published.digest


def test_the_list_says_what_the_recipes_say():
    recipes = map(load_recipe, benchmark_ids())
    expected = [(r.id, r.title, r.paper.name, r.data.dataset, r.target) for r in recipes]
    assert [tuple(summary)[:5] for summary in summaries()] == expected


def test_published_settings_of_binaryconnect_mnist():
    recipe = load_recipe("binaryconnect-mnist")
    assert recipe.target is not None
    assert (recipe.target.percent, recipe.target.decimals, recipe.target.mark) == (1.15, 2, "")
    assert (recipe.train.epochs, recipe.train.batch_size) == (250, 100)
    assert (recipe.train.lr_start, recipe.train.lr_final) == (1e-3, 3e-6)
    assert (recipe.model.batch_norm_alpha, recipe.model.batch_norm_epsilon) == (0.15, 1e-4)


def test_overrides_are_typed_and_say_where_they_came_from():
    recipe = load_recipe("binaryconnect-mnist", [("train.epochs=2", "--epochs"), "train.lr_start=2e-3"])
    assert not recipe.scoring
    assert [(d.key, d.published, d.value, d.source) for d in recipe.differences] == [
        ("train.epochs", 250, 2, "--epochs"),
        ("train.lr_start", 1e-3, 2e-3, "--set"),
    ]


def test_an_override_to_the_published_value_still_scores():
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=250"])
    assert recipe.scoring
    assert recipe.digest == load_recipe("binaryconnect-mnist").digest


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("train.epoch=2", r"unknown setting 'train.epoch': did you mean train.epochs"),
        ("epochs=2", r"unknown setting 'epochs': did you mean train.epochs"),
        ("train.epochs", r"expected key=value"),
        ("train.epochs=two", r"train.epochs=two: expected a whole number, at least 1"),
        ("train.epochs=0", r"expected a whole number, at least 1"),
        ("train.epochs=2.5", r"expected a whole number"),
        ("train.epochs=", r"expected a whole number"),
        ("train.lr_start=nan", r"train.lr_start=nan: expected a number, above 0"),
        ("train.lr_start=inf", r"expected a number, above 0"),
        ("train.lr_start=-1", r"expected a number, above 0"),
        ("train.lr_start=1e-9", r"train.lr_final=3e-06: expected at most train.lr_start=1e-09"),
        ("model.batch_norm_alpha=1", r"expected a number, above 0, below 1"),
        ("model.weights=stochstic", r"expected deterministic or .*: did you mean stochastic\?"),
        ("model.weights=real-deterministic", r"model.weights=real-deterministic: 2 words for 4 layers: expected"),
        ("model.weights=9x", r"'9x' is not known"),
        ("model.weights=real-", r"'' is no word"),
        ("model.weights=4000000000xreal-real", r"2 words for 4 layers"),
        ("model.weights=", r"'' is no word"),
        ("model.activation=relu-sgn-relu", r"'sgn' is not known: .* one for each hidden layer .*did you mean sign"),
        ("model.activation=4xrelu", r"4 words for 3 layers"),
        ("model.dropout_dense_output=0.5-1-0-0", r"expected a rate, at least 0 and below 1, or one for each fully"),
        ("model.dropout_dense_output=nan", r"expected a rate"),
        ("model.dropout_dense_output=some", r"expected a rate"),
        ("model.dropout_dense_output=2x0.5", r"2 words for 4 layers"),
        ("model.evaluation_weights=stochastc", r"did you mean stochastic"),
        ("model.activation_gradient=swish", r"expected model.swish_beta with swish only"),
        ("model.swish_beta=10", r"expected model.swish_beta with swish only"),
        ("model.activation_gradient=bireal", r"expected model.activation=sign or ternary, not relu"),
        ("model.activation=ternary", r"protocol.evaluation_batch_size=null: expected a number of images"),
        ("model.evaluation_statistics=batch", r"protocol.evaluation_batch_size=null: expected a number of images"),
        ("protocol.evaluation_batch_size=50", r"expected null, as the scores do not depend on it"),
        ("model.momentum=0.9", r"model.optimizer=adam: expected model.momentum and model.nesterov with sgd only"),
        ("model.weight_decay=-1", r"expected a number, at least 0"),
        ("model.nesterov=maybe", r"expected true or false"),
        ("model.dropout_dense=1", r"expected a number, at least 0, below 1"),
        ("model.layer_order=CBPA", r"expected CBAP or CPBA: did you mean"),
        ("train.lr_milestones=3", r"train.lr_decay=exponential: expected train.lr_final with it, and only that"),
        (
            "train.lr_milestones=3;4",
            r"expected a whole number, at least 1, at most 10000000, or several joined by ',' or null",
        ),
        ("train.lr_decay=steps", r"expected train.lr_milestones and train.lr_factor with it, and only that"),
        (
            "train.lr_decay=constant",
            r"train.lr_decay=constant: expected none of lr_factor, lr_final, lr_halving_epochs, lr_milestones",
        ),
        ("data.subset=train_digits", r"expected data.dataset=svhn with it"),
        ("data.augmented=train_valid", r"expected a data.augmentation with it"),
        ("data.labels=rnd", r"expected random or random_train_valid or true"),
        ("model.architecture=3x2048-10FC", r"model.architecture=3x2048-10FC: '3x2048' is none of"),
        ("model.architecture=3x2048FC", r"expected 10FC at the end"),
        ("data.train_images=99", r"expected at least one batch"),
        ("train.lr_final=null", r"train.lr_decay=exponential: expected train.lr_final with it, and only that"),
        ("train.lr_halving_epochs=5", r"train.lr_decay=exponential: expected train.lr_final with it, and only that"),
        ("train.lr_decay=halving", r"train.lr_decay=halving: expected train.lr_halving_epochs with it, and only that"),
        ("model.output_batch_norm=lasagne", r"expected biased_no_gamma or none or tensor or torch"),
    ],
)
def test_bad_overrides_are_refused_with_what_was_expected(override, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe("binaryconnect-mnist", [override])


def test_the_later_one_of_two_values_wins():
    overrides = ["train.epochs=2", "train.epochs=3", "train.epochs=2"]
    assert load_recipe("binaryconnect-mnist", overrides).train.epochs == 2


def test_an_unknown_benchmark_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean binaryconnect-mnist"):
        load_recipe("binaryconect-mnist")


@given(st.sampled_from(sorted(SETTINGS)), st.text(max_size=12))
def test_any_override_is_taken_or_refused_in_a_line_a_problem(key, text):
    try:
        recipe = load_recipe("binaryconnect-mnist", [f"{key}={text}"])
    except RecipeError as error:
        assert all(map(str.isprintable, str(error).splitlines()))  # noqa: PT017 - refusing is one of two good answers
    else:
        assert recipe.scoring == (recipe.settings == recipe.published)


@given(st.sampled_from(["train.epochs", "train.batch_size", "data.train_images"]), st.integers(100, 10**6))
def test_the_digest_changes_exactly_when_a_setting_does(key, value):
    published = load_recipe("binaryconnect-mnist")
    changed = load_recipe("binaryconnect-mnist", [f"{key}={min(value, 50_000)}"])
    assert (changed.digest == published.digest) == (changed.settings == published.settings)


@pytest.mark.parametrize(
    ("benchmark_id", "override", "complaint"),
    [
        (
            "rwth-vgg7-cifar10-float",
            "train.lr_milestones=120,80",
            r"train.lr_milestones=120,80: expected epochs in rising",
        ),
        (
            "rwth-vgg7-cifar10-float",
            "train.lr_milestones=80,,120",
            r"expected a whole number, at least 1, at most 10000000, or several",
        ),
        ("rwth-vgg7-cifar10-float", "model.weights=deterministic", r"expected model.weight_limit with it"),
        (
            "memorization-cifar10-dropout",
            "model.linear_output=batch_norm_relu",
            r"expected no model.linear_output=batch_norm_relu",
        ),
        (
            "binaryconnect-mnist",
            "train.epochs=99999999999999999999",
            r"expected a whole number, at least 1, at most 10000000",
        ),
        ("rwth-vgg7-cifar10-float", "model.binary_regularization=1e-5", r"expected layers that are not real"),
        ("rwth-vgg7-cifar10-float", "model.architecture=128C4-MP2-10FC", r"its size must be odd"),
        ("rwth-vgg7-cifar10-float", "model.architecture=8C33v-10FC", r"a 33x33 kernel finds only 32x32 pixels"),
        ("rwth-vgg7-cifar10-binary", "model.evaluation_weights=stochastic", r"expected model.weights=stochastic, not"),
        ("chawla-mlp-mnist-float", "model.batch_norm=torch", r"expected model.batch_norm_alpha and batch_norm_epsilon"),
        ("chawla-mlp-mnist-float", "model.output_batch_norm=torch", r"expected model.output_batch_norm_alpha and"),
        ("chawla-mlp-mnist-float", "model.dropout_dense=0.5", r"expected no dropout_input and dropout_hidden with it"),
        ("chawla-mlp-mnist-float", "model.nesterov=true", r"expected model.momentum with it"),
        ("lab-mnist", "model.evaluation_weights=real", r"expected binary with model.weights=loss_aware, whose layers"),
        ("lab-mnist-bwn", "model.binary_regularization=1e-5", r"expected 0 with model.weights=layer_scaled, whose"),
        ("lab-mnist", "model.optimizer=sgd", r"expected model.optimizer=adam or torch_adam, not sgd"),
        (
            "binarynet-torch7-mnist",
            "model.weight_decay=1e-4",
            r"weight_decay=0.0001: expected model.optimizer=sgd or adam or torch_adam with it",
        ),
        ("lab-mnist-float", "model.weight_centering=input_channels", r"expected layers that are not real"),
        ("chawla-mlp-mnist-binary", "model.least_gamma=0.01", r"least_gamma=0.01: expected a model.batch_norm with it"),
        (
            "xnornet-lenet5-mnist",
            "model.output_batch_norm=null",
            r"batch_norm=2xtorch-none: expected model.output_batch_norm with it",
        ),
        (
            "xnornet-lenet5-mnist",
            "model.batch_norm=none-torch-none",
            r"linear_output=batch_norm_no_affine_relu-relu-none: expected a model.batch_norm with it",
        ),
        ("xnornet-nin-cifar10", "model.max_pool_gradient=all", r"expected first with model.architecture=192C5"),
        ("xnornet-nin-cifar10", "model.dropout_conv=2x0.5-0", r"dropout_conv=2x0.5-0: 3 words for 9 layers: expected"),
        ("binaryconnect-mnist", "model.dropout_conv=.inf", r"dropout_conv=.inf: could not .*: expected a rate"),
        ("xnornet-nin-cifar10", "model.dropout_hidden=0.5", r"expected no dropout_input and dropout_hidden with it"),
        ("xnornet-lenet5-mnist", "model.batch_norm=2xtorch", r"batch_norm=2xtorch: 2 words for 3 layers: expected "),
        ("xnornet-lenet5-mnist", "model.evaluation_weights=real", r"expected binary with model.weights=real-2xfilter"),
        ("xnornet-lenet5-mnist", "protocol.selection=best_validation", r"or first_best_test with data.valid_images=0"),
        ("memorization-svhn-l2", "data.split=random", r"expected another data.dataset than svhn with it"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(benchmark_id, override, complaint):
    with pytest.raises(RecipeError, match=complaint):
        load_recipe(benchmark_id, [override])


def test_stored_settings_that_do_not_go_together_are_refused():
    stored = msgspec.to_builtins(load_recipe("binaryconnect-mnist").settings)
    stored["model"]["weights"] = "real-real"
    with pytest.raises(RecipeError, match=r"stored settings do not fit this version: model\.weights=real-real"):
        recipe_from_settings("binaryconnect-mnist", stored, {})


def test_steps_of_the_learning_rate_are_given_as_a_list():
    recipe = load_recipe("rwth-vgg7-cifar10-float", ["train.lr_milestones=3,5", "train.epochs=4"])
    assert recipe.train.lr_milestones == (3, 5)
    stored = msgspec.json.decode(msgspec.json.encode(recipe.settings))
    assert recipe_from_settings(recipe.id, stored, {}).digest == recipe.digest


def test_stored_settings_give_the_same_recipe():
    recipe = load_recipe("binaryconnect-mnist", ["train.epochs=3"])
    stored = msgspec.json.decode(msgspec.json.encode(recipe.settings))
    again = recipe_from_settings(recipe.id, stored, recipe.overrides)
    assert again.digest == recipe.digest
    assert again.differences == recipe.differences


@pytest.mark.parametrize("text", ["0.1", ".1", "1e-1", "+.1", " .10 "])
def test_a_number_may_be_written_as_python_reads_it(text):
    assert load_recipe("binarynet-torch7-mnist", [f"train.lr_start={text}"]).train.lr_start == 0.1


def change_catalog(tmp_path, change):
    source = CATALOG / "binaryconnect" / "binaryconnect-mnist.yaml"
    content = yaml.safe_load(source.read_text())
    change(content)
    path = tmp_path / source.name
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda c: c["train"].pop("epochs"), r"train.epochs is missing: expected a whole"),
        (
            lambda c: c["train"].update(epochz={"value": 1, "source": "x"}),
            r"unknown setting: did you mean train.epochs",
        ),
        (lambda c: c["train"].update(epochs=250), r"train.epochs: expected \{value: ..., source: ...\}"),
        (
            lambda c: c["train"]["epochs"].update(value="250"),
            r"train.epochs: expected a whole number, .*, not '250'",
        ),
        (lambda c: c.pop("data"), "data is missing: expected settings, each as"),
        (lambda c: c.update(train=None), "train: expected settings, each as"),
        (lambda c: c.update(trian=1), "'trian': unknown key: did you mean train"),
        (lambda c: c.update(id="other"), "id is 'other', but the file is named"),
    ],
)
def test_a_catalog_file_is_read_strictly(tmp_path, change, complaint):
    with pytest.raises(RecipeError, match=complaint):
        read_catalog_file(change_catalog(tmp_path, change))


def test_a_catalog_file_that_is_no_yaml_is_one_line(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("id: [")
    with pytest.raises(RecipeError, match=r"catalog file broken\.yaml") as caught:
        read_catalog_file(path)
    assert "\n" not in str(caught.value)


def test_two_catalog_files_with_one_id_are_refused(tmp_path):
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"only-{folder}.yaml").write_text(f"# what it is\nid: only-{folder}\n")
    assert list(catalog_files(tmp_path)) == ["only-a", "only-b", "only-c"]
    (tmp_path / "b" / ".only-a.yaml").write_text("id: only-a\n")
    (tmp_path / "b" / ".#only-b.yaml").symlink_to("nobody@nowhere.1234")  # an editor's lock
    assert len(catalog_files(tmp_path)) == 3
    (tmp_path / "c" / "only-a.yaml").write_text("id: only-a\n")
    with pytest.raises(RecipeError, match=r"^catalog files a/only-a.yaml and c/only-a.yaml have the same id: rename"):
        catalog_files(tmp_path)


@pytest.mark.parametrize("text", ["id: one\n", "{id: one}\n", "title: of another\nid: 'one'\n"])
def test_a_catalog_file_is_named_after_its_id(tmp_path, text):
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "one.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_catalog_file(path)
    assert "but the file is named" not in str(caught.value)
    path = path.rename(path.with_name("two.yaml"))
    for read in (read_catalog_file, catalog_file.read_head):
        with pytest.raises(RecipeError, match=r"id is 'one', but the file is named 'two': expected the same"):
            read(path)


# -- the catalog against the originals -------------------------------------------------------------------------------


def settings_changed(benchmark_id, parent_id):
    """What a variant changes, {key: value}."""
    variant, parent = flatten(load_recipe(benchmark_id).settings), flatten(load_recipe(parent_id).settings)
    return {key: value for key, value in variant.items() if value != parent[key]}


# experiments/capacity_study.sh, lines 3 to 10 and 13 to 16: --tern-acts and --tern-weights.
CAPACITY_STUDY = {
    "rwth-vgg7-cifar10-l1t": ("00000000", "100000000"),
    "rwth-vgg7-cifar10-lnt": ("00000000", "000000001"),
    "rwth-vgg7-cifar10-l1nt": ("00000000", "100000001"),
    "rwth-vgg7-cifar10-tern1": ("11111111", "000000000"),
    "rwth-vgg7-cifar10-tern2": ("10000001", "000000000"),
    "rwth-vgg7-cifar10-tern3": ("11000011", "000000000"),
    "rwth-vgg7-cifar10-tern4": ("10000001", "100000001"),
    "rwth-vgg7-cifar10-tern5": ("11111111", "111111111"),
    "rwth-lenet5-mnist-tern1": ("101", "1001"),
    "rwth-lenet5-mnist-l1t": ("000", "1000"),
    "rwth-lenet5-mnist-lnt": ("000", "0001"),
    "rwth-lenet5-mnist-l1nt": ("000", "1001"),
}


@pytest.mark.parametrize(("benchmark_id", "bits"), CAPACITY_STUDY.items())
def test_ternary_layers_are_those_of_the_study(benchmark_id, bits):
    model = load_recipe(benchmark_id).model
    activations, weights = bits
    assert layer_activations(model) == [{"0": "sign", "1": "ternary"}[bit] for bit in activations]
    assert layer_weights(model) == [{"0": "deterministic", "1": "ternary"}[bit] for bit in weights]
    parent = "rwth-vgg7-cifar10-binary" if "vgg7" in benchmark_id else "rwth-lenet5-mnist-binary"
    changed = {"model.activation", "model.weights", "protocol.evaluation_batch_size"}
    assert settings_changed(benchmark_id, parent).keys() <= changed


def test_the_other_lines_of_the_studies_change_one_setting():
    parent = "rwth-vgg7-cifar10-binary"
    wide = "{0}C3v-{0}C3-MP2-2x{1}C3-MP2-2x{2}C3-MP2-2x1024FC-10FC"
    expected = {
        "l1fp": {"model.weights": "real-8xdeterministic"},
        "lnfp": {"model.weights": "8xdeterministic-real"},
        "l1nfp": {"model.weights": "real-7xdeterministic-real"},
        "widen2": {"model.architecture": wide.format(256, 512, 1024)},
        "widen4": {"model.architecture": wide.format(512, 1024, 2048)},
        "reg-1e-5": {"model.binary_regularization": 1e-5},
        "reg-1e-6": {"model.binary_regularization": 1e-6},
        "reg-5e-7": {"model.binary_regularization": 5e-7},
        "reg-1e-7": {"model.binary_regularization": 1e-7},
        "reg-1e-8": {"model.binary_regularization": 1e-8},
        "vanilla": {"model.activation_gradient": "identity"},
        "cbap": {"model.layer_order": "CBAP"},
    }
    assert {name: settings_changed(f"rwth-vgg7-cifar10-{name}", parent) for name in expected} == expected


def test_published_numbers_of_the_repositories():
    targets = {s.id: s.target.test_error for s in summaries() if s.target}
    known = {
        "chawla-mlp-mnist-float": "3.13",
        "chawla-mlp-mnist-binary": "6.28",
        "chawla-cnn-cifar10-float": "23.97",
        "rwth-lenet5-mnist-float": "0.50",
        "rwth-lenet5-mnist-binary": "0.84",
        "rwth-vgg7-cifar10-float": "5.95",
        "rwth-vgg7-cifar10-binary": "10.15",
        "rwth-vgg7-cifar10-widen2": "9.5",
        "rwth-vgg7-cifar10-widen4": "8.1",
        "gluoncv-resnet20-cifar10": "8.00",
        "gluoncv-resnet56-cifar10": "6.68",
        "gluoncv-resnet110-cifar10": "7.02",
        "gluoncv-resnet20-v2-cifar10": "8.11",
        "gluoncv-resnet56-v2-cifar10": "6.32",
        "gluoncv-resnet110-v2-cifar10": "5.95",
        "gluoncv-wideresnet16-10-cifar10": "4.16",
        "gluoncv-wideresnet28-10-cifar10": "4.06",
        "gluoncv-wideresnet40-8-cifar10": "4.03",
    }
    assert {name: targets[name] for name in known} == known


def test_gluoncv_trains_its_networks_as_their_logs_say():
    ids = [benchmark_id for benchmark_id in benchmark_ids() if benchmark_id.startswith("gluoncv-")]
    for benchmark_id in ids:
        train, model = load_recipe(benchmark_id).train, load_recipe(benchmark_id).model
        assert (train.epochs, train.batch_size, train.lr_start) == (200, 128, 0.1)
        wide = "wide" in benchmark_id
        assert (train.lr_milestones, train.lr_factor) == (((61, 121, 161), 0.2) if wide else ((101, 151), 0.1))
        assert (model.momentum, model.nesterov, model.weight_decay) == (0.9, True, 5e-4 if wide else 1e-4)


def test_memorization():
    ids = [benchmark_id for benchmark_id in benchmark_ids() if benchmark_id.startswith("memorization-")]
    assert len(ids) == 9
    assert all(load_recipe(benchmark_id).protocol.evaluates_training for benchmark_id in ids)
    # The penalty of the original never acted.
    assert settings_changed("memorization-svhn-l2", "memorization-svhn-random-labels") == {}
    assert settings_changed("memorization-svhn-l2-acting", "memorization-svhn-l2") == {"model.l2_dense": 0.0005}


def test_everything_that_is_wrong_with_overrides_is_said_at_once_a_line_each():
    overrides = ["train.epochs=x", "model.wights=real", "model.weights=quaternary", "train.batch_size=60000"]
    with pytest.raises(RecipeError) as caught:
        load_recipe("binaryconnect-mnist", overrides)
    first, *lines = str(caught.value).splitlines()
    assert first == "4 problems"
    assert [line.strip().partition(":")[0] for line in lines] == [
        "train.epochs=x", "unknown setting 'model.wights'", "data.train_images=50000", "model.weights=quaternary",
    ]  # fmt: skip
    assert "did you mean model.weights" in lines[1]
    assert lines[3].endswith(
        "`python cli.py show binaryconnect-mnist --explain model.weights` says what each word means"
    )


def test_what_a_refused_override_would_have_mended_is_not_said():
    overrides = ["model.activation_gradient=bireal", "model.activation=sgn"]
    with pytest.raises(RecipeError) as caught:
        load_recipe("binaryconnect-mnist", overrides)
    assert str(caught.value).startswith("model.activation=sgn: 'sgn' is not known")
    overrides = ["model.momentum=0.9", "model.optimizer=sdg"]
    with pytest.raises(RecipeError) as caught:
        load_recipe("binaryconnect-mnist", overrides)
    assert str(caught.value).startswith("model.optimizer=sdg: expected")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("id", ["binaryconnect-mnist", "chawla-mlp-mnist-binary", "memorization-svhn-l2"])
def test_the_digest_is_of_values_not_of_objects(id):
    recipe = load_recipe(id)
    copied = pickle.loads(pickle.dumps(recipe))  # noqa: S301
    assert copied == recipe
    assert (copied.digest, copied.published_digest) == (recipe.digest, recipe.digest)
    assert copied.defaults == recipe.defaults


def test_a_default_that_is_said_is_as_one_that_is_not():
    said = load_recipe("binaryconnect-mnist", ["model.dropout_hidden=0.0"])
    assert said.digest == load_recipe("binaryconnect-mnist").digest
