"""Driving an incident: its steps one after another, the reflex before them, escalation when they fail, its clock."""
