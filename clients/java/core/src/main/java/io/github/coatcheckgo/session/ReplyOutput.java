package io.github.coatcheckgo.session;

import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.output.CommandOutput;
import java.nio.ByteBuffer;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;

/**
 * Any reply: null, a Long, a byte[], or a List of these. Lettuce's own output for nested lists does
 * not tell a value from a list with one value.
 */
final class ReplyOutput extends CommandOutput<byte[], byte[], List<Object>> {
    private final Deque<List<Object>> open = new ArrayDeque<>();

    ReplyOutput() {
        super(ByteArrayCodec.INSTANCE, new ArrayList<>(1));
    }

    private void add(Object value) {
        (open.isEmpty() ? output : open.peek()).add(value);
    }

    @Override
    public void set(ByteBuffer bytes) {
        add(bytes == null ? null : codec.decodeValue(bytes));
    }

    @Override
    public void set(long integer) {
        add(integer);
    }

    @Override
    public void multi(int count) {
        if (count < 0) {
            add(null);
            return;
        }
        List<Object> list = new ArrayList<>(count);
        add(list);
        open.push(list);
    }

    @Override
    public void complete(int depth) {
        while (open.size() > depth) {
            open.pop();
        }
    }
}
