"""The server's words for a collection and its indexes, turned into the engine's and back. Runs in shard processes."""

from __future__ import annotations  # the engine's stubs name types that do not exist when it runs

from collections.abc import Callable, Mapping
from typing import Any

import qdrant_edge as edge

__all__ = ["edge_config", "index_params", "schema_of"]

Json = dict[str, Any]

_DISTANCES = {
    "Cosine": edge.Distance.Cosine,
    "Euclid": edge.Distance.Euclid,
    "Dot": edge.Distance.Dot,
    "Manhattan": edge.Distance.Manhattan,
}
_DATATYPES = {
    "float32": edge.VectorStorageDatatype.Float32,
    "float16": edge.VectorStorageDatatype.Float16,
    "uint8": edge.VectorStorageDatatype.Uint8,
}
_COMPRESSIONS = {f"x{n}": getattr(edge.CompressionRatio, f"X{n}") for n in (4, 8, 16, 32, 64)}
_BINARY_ENCODINGS = {
    "one_bit": edge.BinaryQuantizationEncoding.OneBit,
    "two_bits": edge.BinaryQuantizationEncoding.TwoBits,
    "one_and_half_bits": edge.BinaryQuantizationEncoding.OneAndHalfBits,
}
_BINARY_QUERY_ENCODINGS = {
    "default": edge.BinaryQuantizationQueryEncoding.Default,
    "binary": edge.BinaryQuantizationQueryEncoding.Binary,
    "scalar4bits": edge.BinaryQuantizationQueryEncoding.Scalar4Bits,
    "scalar8bits": edge.BinaryQuantizationQueryEncoding.Scalar8Bits,
}


def edge_config(config: Json) -> edge.EdgeConfig:
    """Turn a collection's config, as `GET /collections/{c}` shows it, into the engine's.

    Raises:
        KeyError, ValueError: the config names something that the engine does not have.
    """
    params = config["params"]
    vectors = params.get("vectors") or {}
    named = {"": vectors} if "size" in vectors else vectors
    quantization = config.get("quantization_config")
    optimizer = config.get("optimizer_config") or {}
    return edge.EdgeConfig(
        vectors={name: _vector(shape) for name, shape in named.items()},
        sparse_vectors={name: _sparse(shape) for name, shape in (params.get("sparse_vectors") or {}).items()},
        on_disk_payload=params.get("on_disk_payload"),
        hnsw_config=_hnsw(config.get("hnsw_config") or {}),
        quantization_config=_quantization(quantization) if quantization else None,
        optimizers=edge.EdgeOptimizersConfig(
            deleted_threshold=optimizer.get("deleted_threshold"),
            vacuum_min_vector_number=optimizer.get("vacuum_min_vector_number"),
            default_segment_number=optimizer.get("default_segment_number"),
            max_segment_size=optimizer.get("max_segment_size"),
            indexing_threshold=optimizer.get("indexing_threshold"),
        ),
    )


def _vector(shape: Json) -> edge.EdgeVectorParams:
    hnsw = shape.get("hnsw_config")
    quantization = shape.get("quantization_config")
    datatype = shape.get("datatype")
    return edge.EdgeVectorParams(
        size=shape["size"],
        distance=_DISTANCES[shape["distance"]],
        on_disk=shape.get("on_disk"),
        multivector_config=(
            edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim) if shape.get("multivector_config") else None
        ),
        datatype=_DATATYPES[datatype] if datatype else None,
        quantization_config=_quantization(quantization) if quantization else None,
        hnsw_config=_hnsw(hnsw) if hnsw else None,
    )


def _sparse(shape: Json) -> edge.EdgeSparseVectorParams:
    index = shape.get("index") or {}
    datatype = index.get("datatype")
    return edge.EdgeSparseVectorParams(
        full_scan_threshold=index.get("full_scan_threshold"),
        on_disk=index.get("on_disk"),
        modifier=edge.Modifier.Idf if shape.get("modifier") == "idf" else None,
        datatype=_DATATYPES[datatype] if datatype else None,
    )


def _hnsw(config: Json) -> edge.HnswIndexConfig:
    return edge.HnswIndexConfig(
        m=config.get("m", 16),
        ef_construct=config.get("ef_construct", 100),
        full_scan_threshold=config.get("full_scan_threshold", 10000),
        max_indexing_threads=config.get("max_indexing_threads") or 0,
        on_disk=config.get("on_disk"),
        payload_m=config.get("payload_m"),
    )


def _quantization(config: Json) -> edge.QuantizationConfigType:
    if scalar := config.get("scalar"):
        return edge.ScalarQuantizationConfig(
            edge.ScalarType.Int8, quantile=scalar.get("quantile"), always_ram=scalar.get("always_ram")
        )
    if product := config.get("product"):
        return edge.ProductQuantizationConfig(
            _COMPRESSIONS[product["compression"]], always_ram=product.get("always_ram")
        )
    if (binary := config.get("binary")) is not None:
        encoding, query_encoding = binary.get("encoding"), binary.get("query_encoding")
        return edge.BinaryQuantizationConfig(
            always_ram=binary.get("always_ram"),
            encoding=_BINARY_ENCODINGS[encoding] if encoding else None,
            query_encoding=_BINARY_QUERY_ENCODINGS[query_encoding] if query_encoding else None,
        )
    raise ValueError(f"unknown quantization {sorted(config)}")


_SIMPLE_SCHEMAS = {
    "keyword": edge.PayloadSchemaType.Keyword,
    "integer": edge.PayloadSchemaType.Integer,
    "float": edge.PayloadSchemaType.Float,
    "geo": edge.PayloadSchemaType.Geo,
    "text": edge.PayloadSchemaType.Text,
    "bool": edge.PayloadSchemaType.Bool,
    "datetime": edge.PayloadSchemaType.Datetime,
    "uuid": edge.PayloadSchemaType.Uuid,
}
_COMMON = ("on_disk", "enable_hnsw")
_PARAM_CLASSES: Mapping[str, tuple[Callable[..., edge.PayloadSchemaParams], tuple[str, ...]]] = {
    "keyword": (edge.KeywordIndexParams, ("is_tenant", *_COMMON)),
    "integer": (edge.IntegerIndexParams, ("lookup", "range", "is_principal", *_COMMON)),
    "float": (edge.FloatIndexParams, ("is_principal", *_COMMON)),
    "geo": (edge.GeoIndexParams, _COMMON),
    "bool": (edge.BoolIndexParams, _COMMON),
    "datetime": (edge.DatetimeIndexParams, ("is_principal", *_COMMON)),
    "uuid": (edge.UuidIndexParams, ("is_tenant", *_COMMON)),
}
_TEXT_PLAIN = ("min_token_len", "max_token_len", "lowercase", "ascii_folding", "phrase_matching", *_COMMON)
_TOKENIZERS = {
    "prefix": edge.TokenizerType.Prefix,
    "whitespace": edge.TokenizerType.Whitespace,
    "word": edge.TokenizerType.Word,
    "multilingual": edge.TokenizerType.Multilingual,
}
_LANGUAGES = {
    name.lower(): getattr(edge.Language, name) for name in dir(edge.Language) if name[0].isupper() and name.isalpha()
}
_STEMMERS = {
    name.lower(): getattr(edge.SnowballLanguage, name)
    for name in dir(edge.SnowballLanguage)
    if name[0].isupper() and name.isalpha()
}


def index_params(schema: Any) -> edge.PayloadSchemaType | edge.PayloadSchemaParams:
    """Turn a `field_schema`, a type's name or an object with `type`, into the engine's.

    Raises:
        KeyError, TypeError, ValueError: it is none that exists.
    """
    if isinstance(schema, str):
        return _SIMPLE_SCHEMAS[schema]
    kind = schema["type"]
    if kind == "text":
        return _text_params(schema)
    maker, names = _PARAM_CLASSES[kind]
    return maker(**{name: schema[name] for name in names if schema.get(name) is not None})


def _text_params(schema: Json) -> edge.TextIndexParams:
    given: Json = {name: schema[name] for name in _TEXT_PLAIN if schema.get(name) is not None}
    if tokenizer := schema.get("tokenizer"):
        given["tokenizer"] = _TOKENIZERS[tokenizer]
    if stopwords := schema.get("stopwords"):
        if isinstance(stopwords, str):
            given["stopwords"] = _LANGUAGES[stopwords]
        else:
            given["stopwords"] = edge.StopwordsSet(
                languages={_LANGUAGES[name] for name in stopwords.get("languages") or ()},
                custom=set(stopwords.get("custom") or ()),
            )
    if stemmer := schema.get("stemmer"):
        given["stemmer"] = edge.SnowballParams(_STEMMERS[stemmer["language"]])
    return edge.TextIndexParams(**given)


def schema_of(info: edge.PayloadIndexInfo) -> Json:
    """Say an index in the server's words: `{"data_type", "params"?, "points"}`."""
    kind = _name_in(_SIMPLE_SCHEMAS, info.data_type)
    answer: Json = {"data_type": kind}
    if info.params is not None:
        answer["params"] = {"type": kind, **_params_of(kind, info.params)}
    answer["points"] = info.points
    return answer


def _params_of(kind: str, params: Any) -> Json:
    if kind != "text":
        names = _PARAM_CLASSES[kind][1]
        return {name: value for name in names if (value := getattr(params, name)) is not None}
    answer: Json = {"tokenizer": _name_in(_TOKENIZERS, params.tokenizer)}
    answer |= {name: value for name in _TEXT_PLAIN if (value := getattr(params, name)) is not None}
    stopwords = params.stopwords
    if isinstance(stopwords, edge.StopwordsSet):
        answer["stopwords"] = {
            "languages": sorted(_name_in(_LANGUAGES, language) for language in stopwords.languages or ()),
            "custom": sorted(stopwords.custom or ()),
        }
    elif stopwords is not None:
        answer["stopwords"] = _name_in(_LANGUAGES, stopwords)
    if isinstance(params.stemmer, edge.SnowballParams):
        answer["stemmer"] = {"type": "snowball", "language": _name_in(_STEMMERS, params.stemmer.language)}
    return answer


def _name_in(table: Mapping[str, Any], value: Any) -> str:
    return next(name for name, known in table.items() if known == value)
