"""Random models of four architectures, with tokenizers made on the spot; the same ones in every process."""

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    T5Config,
    T5Model,
)

WIDTH, LAYERS = 32, 2
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def save_tiny_models(folder, texts):
    """Save one model and tokenizer per architecture; return the folders by name."""
    word_pieces, bytes_ = word_piece_tokenizer(texts), byte_level_tokenizer(texts)
    size = {"vocab_size": 400}
    made = {
        "bert": (
            BertModel,
            BertConfig(
                **size,
                hidden_size=WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=64,
            ),
            word_pieces,
        ),
        "gpt2": (GPT2Model, GPT2Config(**size, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=64), bytes_),
        "llama": (
            LlamaModel,
            LlamaConfig(
                **size,
                hidden_size=WIDTH,
                num_hidden_layers=LAYERS,
                num_attention_heads=4,
                intermediate_size=64,
                max_position_embeddings=64,
            ),
            bytes_,
        ),
        "t5": (
            T5Model,
            T5Config(**size, d_model=WIDTH, d_kv=8, d_ff=64, num_layers=LAYERS, num_heads=4, decoder_start_token_id=0),
            word_pieces,
        ),
    }
    paths = {}
    for name, (model_class, config, tokenizer) in made.items():
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = model_class(config)
        path = folder / name
        model.save_pretrained(path)
        tokenizer.save_pretrained(path)
        paths[name] = str(path)
    return paths


def word_piece_tokenizer(texts):
    """A tokenizer that knows short words whole and longer ones in two pieces.

    Its vocabulary is made here: that of `WordPieceTrainer` is another one in every process.
    """
    normalizer, pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    normal = [normalizer.normalize_str(text) for text in texts]
    words = sorted({word for text in normal for word, _ in pre_tokenizer.pre_tokenize_str(text)})
    letters = sorted(set("".join(words)))
    pieces = [piece for word in words for piece in ([word] if len(word) <= 5 else [word[:4], f"##{word[4:]}"])]
    vocabulary = dict.fromkeys(SPECIAL + letters + [f"##{letter}" for letter in letters] + pieces)
    tokenizer = Tokenizer(
        models.WordPiece({token: number for number, token in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, pre_tokenizer
    ids = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ids)
    return _wrapped(tokenizer)


def byte_level_tokenizer(texts):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return _wrapped(tokenizer)


def _wrapped(tokenizer):
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
