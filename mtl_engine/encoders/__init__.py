"""Encoders: from one modality's rows to features of the trunk's width."""

from __future__ import annotations

from mtl_engine.types import Json

ENCODERS: dict[str, str | Json] = {
    "mlp": "mtl_engine.encoders.image_mlp:ImageMLP",
    "cnn": "mtl_engine.encoders.image_cnn:ImageCNN",
    "table": "mtl_engine.encoders.table:TableEncoder",
    "embedding": "mtl_engine.encoders.embedding:EmbeddingEncoder",
    "text": "mtl_engine.encoders.text:TextEncoder",
    "tfidf": "mtl_engine.encoders.tfidf:TfidfEncoder",
}

DEFAULTS = {"image": "mlp", "table": "table", "embedding": "embedding", "text": "tfidf"}
"""The encoder of a modality when neither the task nor the engine names one."""

MODALITY = {
    "mlp": "image",
    "cnn": "image",
    "table": "table",
    "embedding": "embedding",
    "text": "text",
    "tfidf": "text",
}
