/* Requests that are right, one or more of each method: what the tests of bad input start from. */
#ifndef RETHREAD_TESTS_WIRE_GOLDEN_H
#define RETHREAD_TESTS_WIRE_GOLDEN_H

static const char *const golden[] = {
    "[0, 1, 'hello', [{'protocol': 1, 'client': 'worker 1.0', 'token': b'secret'}]]",
    "[0, 2, 'ping', [{}]]",
    "[0, 3, 'append', [{'thread': 'conv-1'}, b'let me think']]",
    ("[0, 4294967295, 'append', [{'thread': b'conv\\xff1', 'expect': 70000, 'key': 'k-1',"
     " 'response_id': 'resp_1', 'tool_calls': ['call_1', b'call_2'], 'model': 'm', 'turn': 3,"
     " 'final': false, 'tokens': 200, 'prefix': b(16), 'ttl_ms': 300000, 'retention_ms': 0,"
     " 'segments': ['text', 'tokens', 'opaque'], 'ack': 'memory'}, b(300), b'\\x01\\x00\\x00\\x00',"
     " b'\\xff']]"),
    "[0, 5, 'append', [{'thread': 'bare', 'segments': [], 'tool_calls': []}]]",
    ("[0, 6, 'replay', [{'thread': 'conv-1', 'policy': 'all', 'have': {'version': 2, 'step': -1},"
     " 'last': 4, 'max_bytes': 9000000000, 'model': b'm', 'touch': false}]]"),
    "[0, 7, 'replay', [{'response_id': 'resp_1', 'thread': 'conv-1', 'policy': 'none'}]]",
    "[0, 8, 'replay', [{'tool_call': 'call_1'}]]",
    "[0, 9, 'replay', [{'prefix': b(16)}]]",
    "[0, 10, 'stat', [{'thread': 'conv-1'}]]",
    "[0, 11, 'touch', [{'threads': ['a', b'b', 'c'], 'ttl_ms': 1}]]",
    "[0, 12, 'fork', [{'thread': 'new', 'from': 'conv-1', 'at': 2}]]",
    "[0, 13, 'rewind', [{'thread': 'conv-1', 'to': -1}]]",
    "[0, 14, 'forget', [{'thread': 'conv-1'}]]",
    "[0, 15, 'list', [{'starts_with': '', 'cursor': b'', 'limit': 1000}]]",
    "[0, 16, 'info', [{}]]",
    ("[0, 17, 'replay', [{'thread': 'conv-1', 'policy': 'last_turns', 'turns': 2, 'turn': 3,"
     " 'prefix': ['0123456789abcdef', b(16)], 'prefixes': [[0, b(16)], [70000, s(16)]],"
     " 'on_mismatch': 'fail', 'have': {'version': 2, 'step': 3, 'kept': [0, 3]},"
     " 'max_tokens': 300, 'pin': true}]]"),
    "[0, 18, 'begin', [{'thread': 'conv-1', 'segment': 'opaque'}]]",
    "[0, 19, 'chunk', [{'thread': 'conv-1', 'claim': 9223372036854775807}, b'let me', b' think']]",
    ("[0, 20, 'commit', [{'thread': 'conv-1', 'claim': 1, 'expect': 0, 'key': 'k', 'turn': 1,"
     " 'tool_calls': ['call_1'], 'model': 'm', 'visible': b(16), 'segments': ['opaque'],"
     " 'ack': 'disk'}, b'signed']]"),
    "[0, 21, 'abort', [{'thread': 'conv-1', 'claim': 1}]]",
};

enum { GOLDEN_COUNT = sizeof golden / sizeof golden[0] };

#endif
