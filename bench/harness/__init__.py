"""The machinery of bench/tunnel and bench/syscalls: namespaces, peers, measurements, report."""
