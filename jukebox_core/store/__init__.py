"""The token store: windows of tokens at rest, on local disk or object storage, with leases, pins and a spool."""
