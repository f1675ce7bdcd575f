"""The actions, by what they concern. Each is listed in `reanimate/runbooks/registry.py`."""
