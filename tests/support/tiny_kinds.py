"""Random models of many kinds, with a tokenizer of whole words."""

import torch
import transformers as hf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = "the left bank of muddy river was quiet while report on shares fell in city".split()
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
HALVES = {
    "vocab_size": 64,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
T5_SIZES = {"vocab_size": 64, "d_model": 32, "num_layers": 3, "num_heads": 4, "d_kv": 8, "d_ff": 64}
PICTURES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 32,
    "patch_size": 16,
}


def save(folder, kind, **changes):
    """Save a random model, such as "Bert", with settings changed, beside a tokenizer; return the folder as a str."""
    config_class = getattr(hf, f"{kind}Config")
    model_class = getattr(hf, f"{kind}Model")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = model_class(config_class(**changes))
    return save_model(folder, model)


def save_model(folder, model):
    """Save a model beside a tokenizer; return the folder as a str."""
    model.eval().save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return str(folder)


def word_tokenizer():
    """Return a tokenizer that sets no limit to the length of texts."""
    ids = {word: number for number, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(ids, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    )
    named = {f"{token.strip('[]').lower()}_token": token for token in SPECIAL}
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
