"""The official archives: downloaded, verified, unpacked."""
