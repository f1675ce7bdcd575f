"""The closed registry: every action that a runbook may name. An action that is not here does not exist."""

from typing import Any

from reanimate.runbooks.action import Action
from reanimate.runbooks.actions.detection import AssessImpact, IdentifyFault, SetPriority
from reanimate.runbooks.actions.evidence import GatherEvidence
from reanimate.runbooks.actions.llm_attack import HumanReview, StopSubject
from reanimate.runbooks.actions.llm_checks import CheckStatusPage, VerifyAnswers, WaitForProvider
from reanimate.runbooks.actions.llm_levels import Degrade, RecoverGradually
from reanimate.runbooks.actions.llm_quality import CompareAnswers, MoveToBetterModel, WaitForQuality
from reanimate.runbooks.actions.llm_quota import AskForTopUp, WaitForQuota
from reanimate.runbooks.actions.llm_traffic import CacheMode, ReturnProvider, SwitchProvider, UseCheaperModel
from reanimate.runbooks.actions.people import CallPerson, NotifyPeople
from reanimate.runbooks.actions.restoring import (
    RestoreCollections,
    SwitchAliases,
    VerifyCollections,
    WaitForTarget,
)
from reanimate.runbooks.actions.review import AnalyseCause, ImproveMonitoring, UpdateDocuments
from reanimate.runbooks.actions.traffic import HoldWrites, LiftHolds, MoveReadsAway, ReturnReads

__all__ = ["ACTIONS"]

ACTIONS: dict[str, Action[Any]] = {
    action.name: action()
    for action in (
        IdentifyFault,
        AssessImpact,
        SetPriority,
        MoveReadsAway,
        HoldWrites,
        NotifyPeople,
        GatherEvidence,
        CallPerson,
        WaitForTarget,
        RestoreCollections,
        SwitchAliases,
        VerifyCollections,
        ReturnReads,
        CheckStatusPage,
        SwitchProvider,
        CacheMode,
        UseCheaperModel,
        Degrade,
        RecoverGradually,
        WaitForProvider,
        VerifyAnswers,
        ReturnProvider,
        AskForTopUp,
        WaitForQuota,
        CompareAnswers,
        MoveToBetterModel,
        WaitForQuality,
        StopSubject,
        HumanReview,
        LiftHolds,
        AnalyseCause,
        UpdateDocuments,
        ImproveMonitoring,
    )
}
