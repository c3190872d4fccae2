from __future__ import annotations

from botbook._net.states import LINK_STATES, LinkState, state_diagram


def test_every_state_can_be_reached_and_left():
    reached = {LinkState.IDLE} | {state for followers in LINK_STATES.values() for state in followers}
    assert reached == set(LINK_STATES) == set(LinkState)
    assert [state for state, followers in LINK_STATES.items() if not followers] == [LinkState.STOPPED]


def test_stop_leads_out_of_every_state():
    for state in set(LinkState) - {LinkState.STOPPING, LinkState.STOPPED}:
        assert {LinkState.STOPPING, LinkState.STOPPED} & set(LINK_STATES[state])


def test_the_diagram_comes_from_the_table():
    drawn = state_diagram()
    assert drawn.startswith("stateDiagram-v2\n    [*] --> idle")
    assert "    open --> waiting: lost" in drawn
    assert drawn.count("-->") == sum(map(len, LINK_STATES.values())) + 2
