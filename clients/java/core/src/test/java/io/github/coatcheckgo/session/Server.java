package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Connection.Call;
import io.github.coatcheckgo.session.Connection.Failure;
import io.github.coatcheckgo.testkit.RedisServer;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.atomic.AtomicInteger;

/** The server of the tests: one that they start, or the one that COATCHECK_TEST_REDIS names. */
final class Server {
    private Server() {}

    private static final AtomicInteger NAMESPACES = new AtomicInteger();
    private static RedisServer own;
    private static Connection connection;

    static synchronized String url() {
        if (RedisServer.named() != null) {
            return RedisServer.named();
        }
        if (own == null) {
            own = RedisServer.start();
        }
        return own.url();
    }

    /** A namespace that no other test has used. */
    static String namespace() {
        return "java." + ProcessHandle.current().pid() + "." + Long.toHexString(System.nanoTime()) + "." + NAMESPACES.incrementAndGet();
    }

    static RedisStore store() {
        return store(namespace());
    }

    static RedisStore store(String namespace) {
        return RedisStore.open(url(), namespace, Duration.ofSeconds(60));
    }

    private static synchronized Connection connection() {
        if (connection == null) {
            connection = new Connection(url(), Duration.ofSeconds(60));
        }
        return connection;
    }

    /**
     * Sends a command. Arguments are texts or bytes; the key is the second word, or the fourth of
     * EVAL.
     */
    static Object command(Object... words) {
        return on(connection(), false, words);
    }

    /** Sends a command on this connection, or to each primary. */
    static Object on(Connection c, boolean everywhere, Object... words) {
        int key = words[0].equals("EVAL") ? 3 : everywhere ? -1 : 1;
        try {
            long deadline = c.deadline();
            Object reply = null;
            for (Connection.Node node : everywhere ? c.primaries(deadline) : List.<Connection.Node>of(calls -> c.send(calls, deadline))) {
                CommandArgs<byte[], byte[]> args = Connection.args();
                for (int i = 1; i < words.length; i++) {
                    byte[] word = words[i] instanceof byte[] b ? b : Connection.bytes(words[i].toString());
                    if (i == key) {
                        args.addKey(word);
                    } else {
                        args.add(word);
                    }
                }
                Call call = new Call(CommandType.valueOf(words[0].toString()), args);
                node.send(List.of(call));
                reply = plain(call.reply(deadline));
            }
            return reply;
        } catch (Failure e) {
            throw new IllegalStateException(e.getMessage(), e);
        }
    }

    static Object plain(Object reply) {
        if (reply instanceof byte[] b) {
            return new String(b, StandardCharsets.UTF_8);
        }
        if (reply instanceof List<?> list) {
            List<Object> out = new ArrayList<>();
            list.forEach(e -> out.add(plain(e)));
            return out;
        }
        return reply;
    }

    static Map<String, String> hash(String key) {
        List<?> list = (List<?>) command("HGETALL", key);
        Map<String, String> hash = new TreeMap<>();
        for (int i = 0; i < list.size(); i += 2) {
            hash.put(list.get(i).toString(), list.get(i + 1).toString());
        }
        return hash;
    }
}
