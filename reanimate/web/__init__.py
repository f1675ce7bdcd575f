"""The web process: alert intake, switches for gateways, pages, metrics, and the loops that keep the record moving."""
