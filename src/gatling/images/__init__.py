"""Container images of releases, written and pushed without a daemon.

An image is an OCI layout on disk (layout.py): layers of a release tree (tree.py) above a base
(base.py), compressed once each (archive.py). registry.py speaks the distribution protocol.
"""
