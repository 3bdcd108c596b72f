"""What apps may say of their proxy, as requests to the helper have it."""

from __future__ import annotations

from hypothesis import strategies as st

OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "body_limit": st.sampled_from(["0", "20m", "2g"]),
        "read_timeout": st.integers(1, 86400),
        "buffering": st.booleans(),
        "redirect_www": st.sampled_from(["off", "to-apex", "to-www"]),
        "https": st.sampled_from(["off", "redirect"]),
        "headers": st.sampled_from(["", "X-A: b", "X-A: \"b\"; {c} | X-D: 'e'"]),
        "static": st.booleans(),
    },
)
PASSWORDS = st.dictionaries(
    st.sampled_from(["*", "a.example.com", "*.b.org"]),
    st.dictionaries(st.sampled_from(["ann", "ci@x"]), st.just("$6$salt$" + "h" * 86), min_size=1),
    max_size=2,
)
