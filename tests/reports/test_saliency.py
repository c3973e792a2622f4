from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.metrics import pairwise_distances
from transformers import AutoModel, AutoTokenizer

from skfactors import SparseDictionary, TransformerFeatureExtractor
from skfactors.datasets import demo_model, load_wikipedia
from skfactors.extraction.forward import HiddenStateRunner
from skfactors.reports import context_span, token_saliency
from skfactors.reports.saliency import METHODS, iter_saliency

TEXT = "She left the park by the left gate, and the bank of the river was muddy."


def fitted_dictionary(extractor, texts, n_components=6):
    texts = [text for text in texts if text]
    dictionary = SparseDictionary(n_components, alpha=0.3, dtype="float64", tol=1e-10, max_solver_iter=20_000)
    return dictionary.set_params(random_state=0).fit(extractor.extract(texts))


@pytest.fixture(scope="module")
def extractor(tiny_model):
    return TransformerFeatureExtractor(tiny_model, dtype="float64", batch_size=8)


@pytest.fixture(scope="module")
def dictionary(extractor, texts):
    return fitted_dictionary(extractor, texts)


def strongest_factor(extractor, dictionary, text, layer, position):
    acts = extractor.extract([text])
    row = acts.provenance.query("layer == @layer and position == @position").index
    return int(dictionary.transform(acts.X[row]).toarray().argmax())


class SlowModel:
    """One forward pass a question, by way of transformers alone."""

    def __init__(self, folder):
        self.model = AutoModel.from_pretrained(folder, dtype=torch.float64).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def activation(self, ids, dictionary, factor, layer, index):
        with torch.no_grad():
            output = self.model(input_ids=torch.tensor([ids]), output_hidden_states=True)
        return dictionary.transform(output.hidden_states[layer][0, index : index + 1].numpy()).toarray()[0, factor]


def slow_lime(slow, dictionary, text, factor, layer, position, n_samples, seed):
    """The paper's procedure, one sample after the other, and the ridge regression by its normal equations."""
    ids = slow.tokenizer(text)["input_ids"]
    length = len(ids) - 2
    random_state = np.random.RandomState(seed)
    n_masked = random_state.randint(1, length + 1, n_samples - 1)
    samples, responses = [], []
    for number in range(n_samples):
        sample, masked_ids = np.ones(length), list(ids)
        if number > 0:
            for place in random_state.choice(length, n_masked[number - 1], replace=False):
                sample[place] = 0
                masked_ids[1 + place] = slow.tokenizer.mask_token_id
        samples.append(sample)
        responses.append(slow.activation(masked_ids, dictionary, factor, layer, 1 + position))
    samples, responses = np.array(samples), np.array(responses)
    distances = pairwise_distances(samples, samples[:1], metric="cosine").ravel() * 100
    weights = np.sqrt(np.exp(-(distances**2) / 25**2))
    design = np.column_stack([samples, np.ones(n_samples)])
    penalty = np.diag([1.0] * length + [0.0])
    gram = design.T @ (weights[:, None] * design) + penalty
    return np.linalg.solve(gram, design.T @ (weights * responses))[:-1]


def test_lime_is_the_papers_procedure(extractor, dictionary, tiny_model):
    factor = strongest_factor(extractor, dictionary, TEXT, layer=2, position=4)
    place = {"factor": factor, "layer": 2, "position": 4, "n_samples": 120}
    saliency = token_saliency(extractor, dictionary, TEXT, random_state=3, **place)
    expected = slow_lime(SlowModel(tiny_model), dictionary, TEXT, seed=3, **place)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(saliency, expected, atol=1e-6)


def test_occlusion_is_the_drop_without_each_token(extractor, dictionary, tiny_model):
    factor = strongest_factor(extractor, dictionary, TEXT, layer=1, position=2)
    saliency = token_saliency(extractor, dictionary, TEXT, factor, 1, 2, method="occlusion")
    slow = SlowModel(tiny_model)
    ids = slow.tokenizer(TEXT)["input_ids"]
    whole = slow.activation(ids, dictionary, factor, 1, 3)
    expected = []
    for place in range(1, len(ids) - 1):
        without = [*ids[:place], slow.tokenizer.mask_token_id, *ids[place + 1 :]]
        expected.append(whole - slow.activation(without, dictionary, factor, 1, 3))
    np.testing.assert_allclose(saliency, expected, atol=1e-6)
    assert saliency.attrs["activation"] == pytest.approx(whole, abs=1e-6)


def test_group_occlusion_is_the_drop_without_all_tokens_of_a_kind(extractor, dictionary, tiny_model):
    position = 7
    factor = strongest_factor(extractor, dictionary, TEXT, layer=1, position=position)
    saliency = token_saliency(extractor, dictionary, TEXT, factor, 1, position, method="group_occlusion")
    slow, tokens = SlowModel(tiny_model), saliency.index.get_level_values("token").str.lower().tolist()
    ids = slow.tokenizer(TEXT)["input_ids"]

    def drop(places):
        hidden = [slow.tokenizer.mask_token_id if number - 1 in places else id for number, id in enumerate(ids)]
        return whole - slow.activation(hidden, dictionary, factor, 1, 1 + position)

    whole = slow.activation(ids, dictionary, factor, 1, 1 + position)
    for place, token in enumerate(tokens):
        alike = [other for other, text in enumerate(tokens) if text == token and other != position]
        expected = drop([position]) if place == position else drop(alike) / len(alike)
        assert saliency.iloc[place] == pytest.approx(expected, abs=1e-6)
    assert max(map(tokens.count, tokens)) > 1


class RepetitionProbe:
    """A model whose one state is 1 at a word that was met before and not hidden, and 0 elsewhere."""

    masking, n_hidden_states, batch_size = "mask_token", 1, 4

    def probe(self):
        return self

    def windows(self, text):
        words = text.split()
        offsets = np.array([(2 * place, 2 * place + 1) for place in range(len(words))])
        whole = slice(0, len(words))
        of_words = {"input_ids": words, "position": 0, "n_rows": len(words), "offsets": offsets}
        return [SimpleNamespace(**of_words, rows=whole, of_text=whole)]

    def masked(self, window, kept):
        return [word if is_kept else None for word, is_kept in zip(window.input_ids, kept, strict=True)]

    def states_at(self, windows, reads):
        places = [(windows[window], token) for window, _, token in reads.tolist()]
        met = [words[token] is not None and words[token] in words[:token] for words, token in places]
        return np.array(met, dtype=float)[:, None]


@pytest.mark.parametrize(
    ("method", "weights", "span"), [("occlusion", [0, 0, 0, 0, 1], 1), ("group_occlusion", [0.5, 0, 0.5, 0, 1], 5)]
)
def test_what_was_mentioned_twice_before_is_seen_by_groups_alone(method, weights, span):
    dictionary = PCA(1).fit([[-1.0], [1.0]])
    dictionary.components_ = np.ones((1, 1))
    saliency = token_saliency(RepetitionProbe(), dictionary, "b x B y b".lower(), 0, 0, 4, method=method)
    assert saliency.tolist() == weights
    assert context_span(saliency) == span


def test_the_gradient_is_what_small_steps_towards_the_mask_change(extractor, dictionary, tiny_model):
    saliency = token_saliency(extractor, dictionary, TEXT, 1, 2, 4, method="gradient")
    slow = SlowModel(tiny_model)
    ids = torch.tensor([slow.tokenizer(TEXT)["input_ids"]])
    embed = slow.model.get_input_embeddings()

    def product(embeddings):
        with torch.no_grad():
            output = slow.model(inputs_embeds=embeddings, output_hidden_states=True)
        return float(output.hidden_states[2][0, 5] @ torch.tensor(dictionary.components_[1]))

    step, expected = 1e-5, []
    whole = embed(ids).detach()
    mask = embed(torch.tensor(slow.tokenizer.mask_token_id)).detach()
    for place in range(1, ids.shape[1] - 1):
        more, less = whole.clone(), whole.clone()
        more[0, place] += step * (whole[0, place] - mask)
        less[0, place] -= step * (whole[0, place] - mask)
        expected.append((product(more) - product(less)) / (2 * step))
    np.testing.assert_allclose(saliency, expected, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_every_token_of_the_window_has_its_text_and_position(extractor, dictionary, method):
    saliency = token_saliency(extractor, dictionary, TEXT, 0, -1, 3, method=method, n_samples=10, random_state=0)
    provenance = extractor.set_params(layers="all").extract([TEXT]).provenance.query("layer == 0")
    assert saliency.index.get_level_values("position").tolist() == provenance["position"].tolist()
    tokens = [TEXT[start:end] for start, end in zip(provenance["start"], provenance["end"], strict=True)]
    assert saliency.index.get_level_values("token").tolist() == tokens
    assert saliency.attrs["start"] == provenance["start"].tolist()
    assert saliency.attrs["layer"] == 2
    assert saliency.attrs["masking"] == "mask_token"
    assert saliency.name == "saliency"


@pytest.mark.parametrize("stride", [0, 5])
def test_only_the_window_that_holds_the_target_counts(tiny_model, dictionary, stride):
    extractor = TransformerFeatureExtractor(tiny_model, max_length=14, stride=stride, dtype="float64")
    text = TEXT * 3
    saliency = token_saliency(extractor, dictionary, text, 0, 2, 20, method="occlusion")
    positions = saliency.index.get_level_values("position").tolist()
    assert positions == list(range(positions[0], positions[0] + 12))
    assert 20 in positions
    assert positions[0] == 12 + (20 - 12) // (12 - stride) * (12 - stride) - stride
    row = extractor.extract([text]).provenance.query("layer == 2 and position == 20").index
    activation = dictionary.transform(extractor.extract([text]).X[row]).toarray()[0, 0]
    assert saliency.attrs["activation"] == pytest.approx(activation, abs=1e-8)


def test_one_call_for_many_contexts_gives_what_single_calls_give(extractor, dictionary, texts):
    contexts = pd.DataFrame(
        {"factor": [0, 1, 2, 3], "layer": [1, 2, 2, 0], "document": [0, 4, 4, 1], "position": [2, 70, 3, 0]}
    )
    together = dict(iter_saliency(extractor, dictionary, texts, contexts, n_samples=30, random_state=5))
    for number, context in enumerate(contexts.itertuples()):
        place = (texts[context.document], context.factor, context.layer, context.position)
        alone = token_saliency(extractor, dictionary, *place, n_samples=30, random_state=5)
        np.testing.assert_allclose(together[number], alone, atol=1e-8)
        assert together[number].index.equals(alone.index)


@pytest.mark.parametrize("method", ["lime", "occlusion"])
def test_contexts_share_forward_passes(extractor, dictionary, monkeypatch, method):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(TEXT.split(), rng.integers(5, 12))) for _ in range(50)]
    contexts = pd.DataFrame({"factor": range(100), "layer": 2, "document": 0, "position": 1})
    contexts = contexts.assign(factor=contexts["factor"] % 6, document=contexts["factor"] % 50)
    sizes, forward = [], HiddenStateRunner.forward

    def counted(self, windows):
        sizes.append(len(windows))
        return forward(self, windows)

    monkeypatch.setattr(HiddenStateRunner, "forward", counted)
    found = dict(iter_saliency(extractor, dictionary, texts, contexts, method=method, n_samples=40, random_state=0))
    n_versions = 0
    for document in range(50):
        n_tokens = len(found[document])
        if method == "occlusion":
            n_versions += 1 + n_tokens
            continue
        random_state = np.random.RandomState(0)
        versions = {()}
        for size in random_state.randint(1, n_tokens + 1, 39):
            versions.add(tuple(sorted(random_state.choice(n_tokens, size, replace=False))))
        n_versions += len(versions)
    assert len(found) == 100
    assert sum(sizes) == n_versions
    assert len(sizes) <= 1.2 * np.ceil(n_versions / extractor.batch_size)


@pytest.mark.parametrize(("removed", "masking"), [(["mask"], "unk_token"), (["mask", "unk"], "deletion")])
@pytest.mark.parametrize("architecture", ["bert", "gpt2", "llama", "t5"])
def test_a_model_without_a_mask_token_gets_what_there_is(tiny_models, texts, tmp_path, architecture, removed, masking):
    folder = tiny_models[architecture]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for name in removed:
        setattr(tokenizer, f"{name}_token", None)
    AutoModel.from_pretrained(folder).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    extractor = TransformerFeatureExtractor(str(tmp_path), dtype="float64", max_length=24)
    dictionary = fitted_dictionary(extractor, texts)
    for method in METHODS:
        saliency = token_saliency(extractor, dictionary, TEXT, 0, 2, 4, method=method, n_samples=20, random_state=0)
        assert saliency.attrs["masking"] == masking
        assert np.isfinite(saliency).all()


def test_deletion_leaves_tokens_out_and_with_the_target_its_activation(tiny_models, texts, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["bert"])
    tokenizer.mask_token = tokenizer.unk_token = None
    AutoModel.from_pretrained(tiny_models["bert"]).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    extractor = TransformerFeatureExtractor(str(tmp_path), dtype="float64")
    dictionary = fitted_dictionary(extractor, texts)
    factor = strongest_factor(extractor, dictionary, TEXT, layer=2, position=4)
    saliency = token_saliency(extractor, dictionary, TEXT, factor, 2, 4, method="occlusion")
    slow = SlowModel(tmp_path)
    ids = tokenizer(TEXT)["input_ids"]
    whole = slow.activation(ids, dictionary, factor, 2, 5)
    expected = []
    for place in range(1, len(ids) - 1):
        index = 5 - (place < 5)
        rest = slow.activation(ids[:place] + ids[place + 1 :], dictionary, factor, 2, index) if place != 5 else 0
        expected.append(whole - rest)
    np.testing.assert_allclose(saliency, expected, atol=1e-6)


def test_hostile_text_is_kept_as_it_is(tiny_models, texts):
    extractor = TransformerFeatureExtractor(tiny_models["gpt2"])
    text = "<b>[MASK] \ud800\u05e9</b>"
    dictionary = fitted_dictionary(extractor, texts)
    saliency = token_saliency(extractor, dictionary, text, 0, 2, 0, n_samples=10, random_state=0)
    tokens = saliency.index.get_level_values("token")
    assert "[MASK]" not in tokens
    assert any("\ud800" in token for token in tokens)
    assert all(text[start:end] == token for token, start, end in zip(tokens, *_offsets(saliency), strict=True))


def _offsets(saliency):
    return saliency.attrs["start"], saliency.attrs["end"]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"factor": 6}, ValueError, "there is no factor 6"),
        ({"factor": 1.5}, TypeError, "factor=1.5"),
        ({"layer": 3}, ValueError, "there is no layer 3"),
        ({"layer": -4}, ValueError, "there is no layer -4"),
        ({"position": 900}, ValueError, "there is no position 900"),
        ({"text": ""}, ValueError, "there is no position 0"),
        ({"text": [TEXT]}, TypeError, "text is of type list"),
        ({"method": "magic"}, ValueError, "'magic' is not one of 'lime', 'occlusion', 'group_occlusion', 'gradient'"),
        ({"n_samples": 1}, ValueError, "n_samples == 1"),
        ({"extractor": "bert"}, TypeError, "extractor is of type str"),
        ({"dictionary": SparseDictionary()}, NotFittedError, "not fitted"),
    ],
)
def test_bad_arguments_are_named(extractor, dictionary, changes, error, message):
    arguments = {"extractor": extractor, "dictionary": dictionary, "text": TEXT, "factor": 0, "layer": 0, "position": 0}
    with pytest.raises(error, match=message):
        token_saliency(**arguments | changes)


def test_a_word_factor_of_the_demo_model_depends_on_its_word_most(demo_activations):
    extractor = TransformerFeatureExtractor(demo_model(), layers=[1], max_length=32)
    dictionary = SparseDictionary(40, alpha=1.5, random_state=0).fit(demo_activations)
    text = load_wikipedia(1)[0][:150]
    acts = extractor.extract([text])
    codes = dictionary.transform(acts.X).toarray()
    row, factor = np.unravel_index(codes.argmax(), codes.shape)
    position = int(acts.provenance["position"][row])
    saliency = token_saliency(extractor, dictionary, text, int(factor), 1, position, n_samples=150, random_state=0)
    assert saliency.idxmax()[0] == position
