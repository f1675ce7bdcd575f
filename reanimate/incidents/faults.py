"""The thirteen faults, in four classes, and `unknown`."""

from enum import StrEnum

__all__ = ["FAULT_CLASS", "Fault", "FaultClass"]


class FaultClass(StrEnum):
    DEPENDENCY = "dependency"
    RESOURCE = "resource"
    QUALITY = "quality"
    DATA = "data"
    UNKNOWN = "unknown"


class Fault(StrEnum):
    LLM_API_UNAVAILABLE = "llm_api_unavailable"
    VECTOR_DATABASE_DOWN = "vector_database_down"
    EXTERNAL_TOOL_DOWN = "external_tool_down"
    TOKEN_QUOTA_EXHAUSTED = "token_quota_exhausted"
    DATABASE_POOL_EXHAUSTED = "database_pool_exhausted"
    OUT_OF_MEMORY = "out_of_memory"
    CPU_OVERLOAD = "cpu_overload"
    OUTPUT_QUALITY_DROP = "output_quality_drop"
    MASS_HALLUCINATION = "mass_hallucination"
    MALICIOUS_PROMPT_ATTACK = "malicious_prompt_attack"
    KNOWLEDGE_BASE_DELETED = "knowledge_base_deleted"
    CONFIGURATION_CHANGED = "configuration_changed"
    USER_DATA_LOST = "user_data_lost"
    UNKNOWN = "unknown"


FAULT_CLASS: dict[Fault, FaultClass] = {
    Fault.LLM_API_UNAVAILABLE: FaultClass.DEPENDENCY,
    Fault.VECTOR_DATABASE_DOWN: FaultClass.DEPENDENCY,
    Fault.EXTERNAL_TOOL_DOWN: FaultClass.DEPENDENCY,
    Fault.TOKEN_QUOTA_EXHAUSTED: FaultClass.RESOURCE,
    Fault.DATABASE_POOL_EXHAUSTED: FaultClass.RESOURCE,
    Fault.OUT_OF_MEMORY: FaultClass.RESOURCE,
    Fault.CPU_OVERLOAD: FaultClass.RESOURCE,
    Fault.OUTPUT_QUALITY_DROP: FaultClass.QUALITY,
    Fault.MASS_HALLUCINATION: FaultClass.QUALITY,
    Fault.MALICIOUS_PROMPT_ATTACK: FaultClass.QUALITY,
    Fault.KNOWLEDGE_BASE_DELETED: FaultClass.DATA,
    Fault.CONFIGURATION_CHANGED: FaultClass.DATA,
    Fault.USER_DATA_LOST: FaultClass.DATA,
    Fault.UNKNOWN: FaultClass.UNKNOWN,
}
