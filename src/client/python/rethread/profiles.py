"""What a model's next call is to be given of its earlier reasoning, and in which field.

Written by generate_profiles.py from schema/profiles.def; change that, then run `make profiles`.
"""

from __future__ import annotations

from typing import NamedTuple


class Profile(NamedTuple):
    """One row of the table; the first row whose pattern fits the model's name counts.

    ``pattern``: of the name behind its last ``/``, in lower case; ``*`` stands for any characters.
    ``turns``: with the policy ``last_turns``. ``field``: of a chat message, where the model's
    server expects the reasoning. ``anyone``: other models may read it.
    """

    pattern: str
    policy: str
    turns: int
    field: str
    anyone: bool


PROFILES: tuple[Profile, ...] = (
    Profile('*gpt-oss*', 'since_final', 0, 'thinking', True),
    Profile('qwen3.8*', 'all', 0, 'reasoning_content', True),
    Profile('qwen3*', 'current_turn', 0, 'reasoning_content', True),
    Profile('deepseek-v4*', 'tool_turns', 0, 'reasoning_content', True),
    Profile('deepseek-v3.2*', 'current_turn', 0, 'reasoning_content', True),
    Profile('deepseek-reasoner*', 'current_turn', 0, 'reasoning_content', True),
    Profile('deepseek-chat*', 'current_turn', 0, 'reasoning_content', True),
    Profile('deepseek-r1*', 'none', 0, 'reasoning_content', True),
    Profile('glm-5.3*', 'all', 0, 'reasoning_content', True),
    Profile('glm-5*', 'current_turn', 0, 'reasoning_content', True),
    Profile('glm-4.7*', 'current_turn', 0, 'reasoning_content', True),
    Profile('glm-4.6*', 'current_turn', 0, 'reasoning_content', True),
    Profile('glm-4.5*', 'current_turn', 0, 'reasoning_content', True),
    Profile('kimi-k3*', 'all', 0, 'reasoning_content', True),
    Profile('kimi-k2*', 'since_final', 0, 'reasoning_content', True),
    Profile('minimax-m2*', 'current_turn', 0, 'reasoning_content', True),
    Profile('gemma-4*', 'none', 0, 'reasoning_content', True),
    Profile('gemma4*', 'none', 0, 'reasoning_content', True),
    Profile('gpt-5.6*', 'all', 0, 'reasoning', False),
    Profile('gpt-5.1*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-5.2*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-5.3*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-5.4*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-5.5*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-5.*', 'all', 0, 'reasoning', False),
    Profile('gpt-5*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-4*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-3*', 'current_turn', 0, 'reasoning', False),
    Profile('gpt-*', 'all', 0, 'reasoning', False),
    Profile('o1*', 'current_turn', 0, 'reasoning', False),
    Profile('o3*', 'current_turn', 0, 'reasoning', False),
    Profile('o4*', 'current_turn', 0, 'reasoning', False),
    Profile('gemini*', 'all', 0, 'reasoning_content', False),
    Profile('grok*', 'all', 0, 'reasoning_content', False),
    Profile('*claude-3*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4-0*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4-20*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4@*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4:*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4-1*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-opus-4.1*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-4-opus*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4-0*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4-20*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4@*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4:*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4-5*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-sonnet-4.5*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-4-sonnet*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-haiku-4-5*', 'last_turns', 1, 'thinking', False),
    Profile('*claude-haiku-4.5*', 'last_turns', 1, 'thinking', False),
    Profile('*claude*', 'all', 0, 'thinking', False),
    Profile('*', 'all', 0, 'reasoning_content', False),
)
