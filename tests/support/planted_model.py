"""A BERT whose weights are set by hand: three features, each of another reach, at known places of its hidden states."""

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["gate", "north", "of", "town", "echo"] + [f"filler{number}" for number in range(20)]
N_POSITIONS, HEAD_WIDTH, N_HEADS, N_LAYERS = 64, 80, 3, 2
WIDTH = HEAD_WIDTH * N_HEADS
# Dimensions of a hidden state: one for each position, one for each word, then what attention brings and finds.
WORD = {word: N_POSITIONS + number for number, word in enumerate(SPECIAL + WORDS)}
BEFORE, TWO_BEFORE, FAR_BEFORE, PATTERN = range(WIDTH - 4, WIDTH)
FAR = 30
LOW, MID, HIGH = 0, 1, 2


def factors():
    """Return three factors: the word "gate", the pattern "north of town", and "echo" 30 tokens before any word."""
    components = torch.zeros(3, WIDTH)
    components[LOW, WORD["gate"]] = components[MID, PATTERN] = components[HIGH, FAR_BEFORE] = 1
    return components.numpy()


def save_planted_model(folder):
    config = BertConfig(
        vocab_size=len(SPECIAL + WORDS),
        hidden_size=WIDTH,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        intermediate_size=2,
        max_position_embeddings=N_POSITIONS,
        hidden_act="relu",
    )
    model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(1.0 if name.endswith("LayerNorm.weight") else 0.0)
        for number, word in enumerate(SPECIAL + WORDS):
            model.embeddings.word_embeddings.weight[number, WORD[word]] = 1
        for position in range(N_POSITIONS):
            model.embeddings.position_embeddings.weight[position, position] = 1
        _look_back(model.encoder.layer[0], head=0, by=1, word="of", into=BEFORE)
        _look_back(model.encoder.layer[0], head=1, by=2, word="north", into=TWO_BEFORE)
        _look_back(model.encoder.layer[1], head=2, by=FAR, word="echo", into=FAR_BEFORE)
        _forget_gate(model.encoder.layer[0])
        _find_pattern(model.encoder.layer[1])
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return str(folder)


def _look_back(layer, *, head, by, word, into):
    """Let a head bring to each position whether `word` stands `by` positions before it."""
    attention, first = layer.attention, head * HEAD_WIDTH
    for position in range(N_POSITIONS):
        attention.self.key.weight[first + position, position] = 30
        if position >= by:
            attention.self.query.weight[first + position - by, position] = 30
    attention.self.value.weight[first, WORD[word]] = 1
    attention.output.dense.weight[into, first] = 1


def _forget_gate(layer):
    """Take the word "gate" out of the hidden states."""
    layer.intermediate.dense.weight[0, WORD["gate"]] = 1
    layer.output.dense.weight[WORD["gate"], 0] = -1


def _find_pattern(layer):
    """Mark a "town" that "north of" stands before."""
    into = layer.intermediate.dense
    # After layer norm, ones among k ones in WIDTH dimensions are about √(WIDTH / k): here k is 4, or 3 without one of
    # the pattern's tokens. The bias is between what three tokens and what two then sum up to.
    three_tokens, two_tokens = 3 * (WIDTH / 4) ** 0.5, 2 * (WIDTH / 3) ** 0.5
    into.weight[0, [BEFORE, TWO_BEFORE, WORD["town"]]] = 1
    into.bias[0] = -(three_tokens + two_tokens) / 2
    layer.output.dense.weight[PATTERN, 0] = 10


def _tokenizer():
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(SPECIAL + WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ids = [(token, SPECIAL.index(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=ids)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
    )
