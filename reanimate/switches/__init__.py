"""Settings that the data plane obeys, the holds that claim them, and how gateways learn of a change."""
