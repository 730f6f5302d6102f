"""A model of inference, made here: random weights, real labels."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers as hf

from corrigenda.errors import InputError, ModelError, OfflineError
from corrigenda.metrics.longform import inference
from corrigenda.nli import Inferrer
from tests.models.tiny import tiny

PAIRS = [
    ("The tower is in Rome. It is old.", "The tower is in Rome."),
    ("The tower is in Paris.", "The tower is in Rome."),
    ("Rome " * 300, "The tower is in Rome."),
]


def classifier(place: Path, *labels: str) -> str:
    torch.manual_seed(0)
    module, tokenizer = tiny("bert")
    config = hf.BertConfig.from_dict(module.config.to_dict() | {"architectures": None})
    config.num_labels = len(labels)
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: j for j, label in enumerate(labels)}
    tokenizer.model_max_length = config.max_position_embeddings
    hf.BertForSequenceClassification(config).save_pretrained(place)
    tokenizer.save_pretrained(place)
    return str(place)


def test_each_pair_gets_the_label_of_its_highest_score(tmp_path):
    name = classifier(tmp_path, "CONTRADICTION", "neutral", "Entailment")
    infer = Inferrer(name)
    found = infer(PAIRS, batch_size=2)
    module = hf.AutoModelForSequenceClassification.from_pretrained(name).eval()
    encoded = infer.tokenizer(*PAIRS[0], return_tensors="pt")
    with torch.no_grad():
        best = int(module(**encoded).logits.argmax())
    assert found[0] == ("contradicts", "neutral", "supports")[best]
    assert inference(found).n == len(PAIRS)
    assert infer([]) == []


def test_there_is_no_default_and_no_fallback(tmp_path):
    with pytest.raises(InputError, match="name one"):
        Inferrer("")
    with pytest.raises(OfflineError, match="nowhere"):
        Inferrer(str(tmp_path / "nowhere"))


def test_another_classifier_is_refused(tmp_path):
    name = classifier(tmp_path, "positive", "negative", "neutral")
    with pytest.raises(ModelError, match="positive, negative, neutral"):
        Inferrer(name)
