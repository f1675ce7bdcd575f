"""From a sender's POST to an incident: authentication, the durable inbox, one file per sender, folding."""
