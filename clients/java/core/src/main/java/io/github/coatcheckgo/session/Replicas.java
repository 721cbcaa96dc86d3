package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Connection.Call;
import io.github.coatcheckgo.session.Connection.Failure;
import io.github.coatcheckgo.session.SessionException.Kind;
import io.lettuce.core.protocol.CommandType;
import java.time.Duration;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.function.Supplier;

/**
 * Waits until replicas have an end. WAIT counts the writes of its own connection and blocks it, so
 * each waiting end has a connection of its own, which the next one uses again.
 */
final class Replicas implements AutoCloseable {
    /**
     * Always writes: to delete a missing key is no write, and WAIT would wait for nothing. It
     * begins with a DEL, because an end must work also if memory is full. It leaves no key.
     */
    private static final Script WRITE = Script.inline("write",
        "redis.call('DEL', KEYS[1]) redis.call('SET', KEYS[1], '') return redis.call('DEL', KEYS[1])");

    private final int count;
    private final Duration timeout;
    private final Supplier<Connection> open;
    private final ConcurrentLinkedQueue<Connection> idle = new ConcurrentLinkedQueue<>();

    Replicas(int count, Duration timeout, Supplier<Connection> open) {
        this.count = count;
        this.timeout = timeout;
        this.open = open;
    }

    /**
     * Waits until enough replicas have what was written before in the slot of this key.
     *
     * @throws SessionException UNKNOWN_OUTCOME: the end is done, but too few replicas have
     *     acknowledged it
     */
    void await(RedisStore store, String key) {
        await(store, () -> RedisStore.scriptCall(WRITE, true, List.of(key), List.of()));
    }

    /** Makes a write that may be repeated, and waits until enough replicas have it. */
    void await(RedisStore store, Supplier<Call> write) {
        long acknowledged;
        try {
            acknowledged = store.repeat(RedisStore.Repeat.ALWAYS, deadline -> once(write.get(), deadline));
        } catch (SessionException e) {
            throw new SessionException(Kind.UNKNOWN_OUTCOME, "the end is done, but the replicas were not counted: " + e.getMessage(), e);
        }
        if (acknowledged < count) {
            throw new SessionException(Kind.UNKNOWN_OUTCOME,
                "the end is done, but " + acknowledged + " of " + count + " replicas acknowledged it in time");
        }
    }

    private long once(Call write, long deadline) throws Failure {
        Connection c = idle.poll();
        if (c == null) {
            c = open.get();
        }
        try {
            Call wait = new Call(CommandType.WAIT, Connection.args().add(count).add(timeout.toMillis()));
            c.sendToOne(List.of(write, wait), deadline);
            write.reply(deadline);
            return (Long) wait.reply(deadline);
        } finally {
            idle.add(c);
        }
    }

    @Override
    public void close() {
        idle.forEach(Connection::close);
    }
}
