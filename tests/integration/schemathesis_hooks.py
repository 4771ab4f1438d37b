"""What Schemathesis has to be told to test the gateway: how NDJSON is made."""

import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

LINE = st.fixed_dictionaries(
    {
        "source": st.text("ab", min_size=1, max_size=64),
        "target": st.just("b"),
        "amount": st.just("1.5"),
    }
)


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Leave the NDJSON example out: beside a strategy of ours Schemathesis takes bytes only.

    And bound an amount's digits: the schema can't, for the sake of validators that count in floats.
    """
    content = raw_schema["paths"]["/transactions"]["post"]["requestBody"]["content"]
    del content["application/x-ndjson"]["example"]
    posted = raw_schema["components"]["schemas"]["PostedTransaction"]["properties"]
    posted["amount"]["oneOf"][1]["multipleOf"] = 0.0001


schemathesis.openapi.media_type(
    "application/x-ndjson",
    st.lists(LINE, min_size=1).map(lambda lines: "\n".join(map(json.dumps, lines)).encode()),
)
