"""The part of containerd's API that the agent reads: our own .proto files and the stubs generated from them.

The package names, message names and field numbers are containerd's (the same from 1.6 to 2.4); the comments and the
selection are ours.
Stubs generated from containerd's own files would contain ``from types import …``, which imports a module of the standard
library, so our .proto files form a separate package.

The stubs are generated with the oldest supported tools, grpcio-tools 1.68.0 (protobuf 5.28.1), by ``make stubs``.
They load with protobuf 5.28.1, 5.29, 6.30, 6.33, 7.34 and 7.36, and with grpcio from 1.68.0 to 1.85.1. Older versions
of protobuf or grpcio refuse to load them. protobuf 6.30 warns that they are one major version old; no other tested version does.
"""
