"""The places where apps run: the interface of a home, and the kinds of home that implement it."""
