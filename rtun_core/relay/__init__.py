"""The relay service: local UDP ports carried to targets behind an agent over a pool of channels.

Policies are pure and take `now`: `agent_choice` (which agent), `pool` (how many channels, when to
replace them), `router` (which channel a flow uses), `health` (how good a channel is). The shell that
owns sockets and tasks: `service` > `director` (agent and signalling) and `rule_relay` (one per rule)
> `channel`.
"""
