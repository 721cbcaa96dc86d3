package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Connection.Call;
import io.github.coatcheckgo.session.Connection.Failure;
import io.github.coatcheckgo.session.SessionException.Kind;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The sessions in Redis 7.0 or Valkey 7.2, or later: one server, Sentinel or Cluster. It connects
 * with the first request, so a process starts while Redis is down. It is safe for use by many
 * threads; one store per process is enough.
 */
public final class RedisStore implements AutoCloseable {
    /** How long a request waits while there is no connection, before it fails. */
    Duration patience = Duration.ofMillis(300);

    final Connection connection;
    final String namespace;
    final Ends ends;
    // The last revocation of everybody that is known
    private final AtomicLong revoked = new AtomicLong();

    private final String url;
    private final Duration timeout;
    private volatile Replicas replicas; // null: an end waits for none

    private RedisStore(String url, String namespace, Duration timeout) {
        if (!namespace.matches("[a-zA-Z0-9._-]{1,64}")) {
            throw new IllegalArgumentException("a namespace has 1 to 64 of a-z A-Z 0-9 . _ -");
        }
        this.url = url;
        this.timeout = timeout;
        this.namespace = namespace;
        connection = new Connection(url, timeout);
        ends = new Ends(this);
        connection.onDisconnect(ends::repeatAll);
    }

    /**
     * Opens a store with the namespace "coatcheck" and a timeout of 2 s.
     *
     * @param url redis://host:6379, rediss:// with TLS, redis-sentinel://host1,host2/0#name, or
     *     redis-cluster://host1:6379,host2:6379
     */
    public static RedisStore open(String url) {
        return open(url, "coatcheck", Duration.ofSeconds(2));
    }

    /**
     * Opens a store.
     *
     * @param namespace the beginning of all keys; programs that share sessions have the same one
     * @param timeout how long a call waits for Redis
     */
    public static RedisStore open(String url, String namespace, Duration timeout) {
        return new RedisStore(url, namespace, timeout);
    }

    /**
     * Makes ends wait until replicas have them: sign-out, {@link Sessions#end} and the revocations.
     * If fewer acknowledge an end in time, it is done, and the call throws UNKNOWN_OUTCOME, or
     * UNAVAILABLE at a sign-out. Call it before the first request. Default: 0.
     *
     * @param count how many replicas
     * @param atMost how long an end waits for them, less than the store's timeout
     * @return this
     */
    public RedisStore replicas(int count, Duration atMost) {
        if (count < 0 || atMost.toMillis() < 1 || atMost.compareTo(timeout) >= 0) {
            throw new IllegalArgumentException("replicas: the count is not negative, and the wait is shorter than the store's timeout");
        }
        replicas = count == 0 ? null : new Replicas(count, atMost, () -> new Connection(url, timeout));
        return this;
    }

    /** Waits for replicas after an end in a bucket. Each primary replicates one ordered stream. */
    void awaitReplicas(String bucket) {
        Replicas r = replicas;
        if (r != null) {
            r.await(this, namespace + ":{" + bucket + "}:w");
        }
    }

    @Override
    public void close() {
        ends.close();
        if (replicas != null) {
            replicas.close();
        }
        connection.close();
    }

    // Calls.

    /** What to do after a failure. */
    enum Repeat {
        /** Send again only if it certainly did not run. */
        ONCE,
        /** Send again after any failure: the caller chose all values that identify the write. */
        ALWAYS
    }

    /** Builds the commands of one attempt, sends them and waits for the first reply. */
    interface Attempt<T> {
        T run(long deadline) throws Failure;
    }

    <T> T repeat(Repeat repeat, Attempt<T> attempt) {
        long deadline = connection.deadline();
        long awaySince = 0;
        boolean mayHaveRun = false;
        for (int n = 0;; n++) {
            try {
                return attempt.run(deadline);
            } catch (Failure e) {
                mayHaveRun |= !e.notRun;
                boolean again = e.notRun || repeat == Repeat.ALWAYS && (e.error.isEmpty() || e.is("TRYAGAIN"));
                awaySince = !e.away ? 0 : awaySince == 0 ? System.nanoTime() : awaySince;
                boolean away = awaySince != 0 && System.nanoTime() - awaySince > patience.toNanos();
                boolean late = System.nanoTime() - deadline >= 0 || Thread.currentThread().isInterrupted();
                if (!again || away || late) {
                    throw new SessionException(mayHaveRun && e.error.isEmpty() ? Kind.UNKNOWN_OUTCOME : Kind.UNAVAILABLE,
                        "Redis: " + e.getMessage(), e);
                }
                pause(n);
            }
        }
    }

    private static void pause(int attempt) {
        try {
            Thread.sleep(1 + ThreadLocalRandom.current().nextInt(2 << Math.min(attempt, 5)));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    static Call scriptCall(Script script, boolean source, List<String> keys, List<?> args) {
        CommandArgs<byte[], byte[]> a = Connection.args().add(Connection.bytes(source ? script.source() : script.sha1()))
            .add(keys.size());
        keys.forEach(key -> a.addKey(Connection.bytes(key)));
        args.forEach(arg -> a.add(arg instanceof byte[] bytes ? bytes : Connection.bytes(arg.toString())));
        return new Call(source ? CommandType.EVAL : CommandType.EVALSHA, a);
    }

    static Call call(CommandType type, String key, String... args) {
        CommandArgs<byte[], byte[]> a = Connection.args().addKey(Connection.bytes(key));
        for (String arg : args) {
            a.add(Connection.bytes(arg));
        }
        return new Call(type, a);
    }

    /** Runs a script. Its reply has the status first. */
    Reply run(String name, Repeat repeat, List<String> keys, List<?> args) {
        Script script = Script.of(name);
        return repeat(repeat, deadline -> runOnce(script, keys, args, deadline));
    }

    /** Runs a script that may be repeated. While the slot of its keys moves, it replies "busy". */
    Reply runOrBusy(Script script, List<String> keys, List<?> args) {
        return repeat(Repeat.ALWAYS, deadline -> {
            try {
                return runOnce(script, keys, args, deadline);
            } catch (Failure e) {
                if (e.is("TRYAGAIN")) {
                    return new Reply(List.of("busy"));
                }
                throw e;
            }
        });
    }

    private Reply runOnce(Script script, List<String> keys, List<?> args, long deadline) throws Failure {
        Call call = scriptCall(script, false, keys, args);
        connection.send(List.of(call), deadline);
        try {
            return new Reply(call.reply(deadline));
        } catch (Failure e) {
            if (!e.is("NOSCRIPT")) {
                throw e;
            }
        }
        call = scriptCall(script, true, keys, args);
        connection.send(List.of(call), deadline);
        return new Reply(call.reply(deadline));
    }

    /** Runs a script without waiting for it. A failure is logged: a later use is written. */
    CompletableFuture<?> send(String name, List<String> keys, List<?> args) {
        Script script = Script.of(name);
        return trySend(scriptCall(script, false, keys, args)).handle((reply, failure) -> failure)
            .thenCompose(failure -> noScript(failure) ? trySend(scriptCall(script, true, keys, args))
                : failure == null ? CompletableFuture.completedFuture(null) : CompletableFuture.failedFuture(failure))
            .whenComplete((reply, failure) -> {
                if (failure != null) {
                    Session.LOG.log(System.Logger.Level.DEBUG, "a use was not written to the store; a later one will be", failure);
                }
            });
    }

    private static boolean noScript(Throwable failure) {
        return failure != null && String.valueOf(failure.getMessage()).contains("NOSCRIPT");
    }

    private CompletableFuture<?> trySend(Call call) {
        try {
            connection.send(List.of(call), System.nanoTime() + 1_000_000);
            return call.stage().toCompletableFuture();
        } catch (Failure e) {
            return CompletableFuture.failedFuture(e);
        }
    }

    /** Reads. Each reply is one of the calls', or a Failure of the server. */
    private List<Object> read(java.util.function.Supplier<List<Call>> calls) {
        return repeat(Repeat.ALWAYS, deadline -> {
            List<Call> sent = calls.get();
            connection.send(sent, deadline);
            return replies(sent, deadline);
        });
    }

    /** Waits for the replies of reads. WRONGTYPE becomes a reply; another error fails all. */
    private static List<Object> replies(List<Call> sent, long deadline) throws Failure {
        List<Object> replies = new ArrayList<>(sent.size());
        for (Call call : sent) {
            try {
                replies.add(call.reply(deadline));
            } catch (Failure e) {
                if (!e.is("WRONGTYPE")) {
                    throw e;
                }
                replies.add(e);
            }
        }
        return replies;
    }

    /** A reply of a script. */
    record Reply(List<?> parts) {
        Reply(Object reply) {
            this((List<?>) reply);
        }

        String status() {
            return text(0);
        }

        String text(int i) {
            Object part = i < parts.size() ? parts.get(i) : null;
            return part instanceof byte[] bytes ? new String(bytes, StandardCharsets.UTF_8) : part == null ? null : part.toString();
        }

        long number(int i) {
            return (Long) parts.get(i);
        }

        byte[] bytes(int i) {
            return i < parts.size() ? (byte[]) parts.get(i) : null;
        }

        List<String> texts(int i) {
            List<String> texts = new ArrayList<>();
            for (Object e : (List<?>) parts.get(i)) {
                texts.add(new String((byte[]) e, StandardCharsets.UTF_8));
            }
            return texts;
        }

        SessionException unexpected(String about) {
            return new SessionException(Kind.UNAVAILABLE, about + ": the script replied " + status() + " " + text(1));
        }
    }

    // Reading.

    private static final Script SERVER_TIME = Script.inline("time", "return redis.call('TIME')");

    /** Returns the call that asks for the time of the server that has the key. */
    Call timeCall(String key) {
        return connection.cluster ? scriptCall(SERVER_TIME, true, List.of(key), List.of())
            : new Call(CommandType.TIME, Connection.args());
    }

    static long time(Object reply) {
        List<?> parts = (List<?>) reply;
        return Long.parseLong(new String((byte[]) parts.get(0), StandardCharsets.US_ASCII)) * 1000
            + Long.parseLong(new String((byte[]) parts.get(1), StandardCharsets.US_ASCII)) / 1000;
    }

    /** Returns a hash with names of ISO 8859-1, or null for a key of another type. */
    static Map<String, byte[]> hash(Object reply) {
        if (!(reply instanceof List<?> list)) {
            return null;
        }
        Map<String, byte[]> hash = new LinkedHashMap<>();
        for (int i = 0; i < list.size(); i += 2) {
            hash.put(new String((byte[]) list.get(i), StandardCharsets.ISO_8859_1), (byte[]) list.get(i + 1));
        }
        return hash;
    }

    /**
     * Reads a session, the revocations and the time in one round trip. On a Cluster, two nodes are
     * asked.
     */
    Reading.Found load(SessionId id) {
        String key = id.key(namespace);
        List<Object> replies = read(() -> List.of(call(CommandType.HGETALL, key),
            call(CommandType.HGETALL, id.revocationsKey(namespace)), call(CommandType.GET, namespace + ":revoked"), timeCall(key)));
        byte[] found = replies.get(2) instanceof byte[] bytes ? bytes : null;
        boolean isString = !(replies.get(2) instanceof Failure);
        return new Reading.Found(hash(replies.get(0)), hash(replies.get(1)), latest(found, isString), isString, time(replies.get(3)));
    }

    /** A hash, or null for a key of another type, and the server's time. */
    record Hash(Map<String, byte[]> values, long now) {}

    /** Reads a hash and the time in one round trip. */
    Hash loadHash(String key) {
        List<Object> replies = read(() -> List.of(call(CommandType.HGETALL, key), timeCall(key)));
        return new Hash(hash(replies.get(0)), time(replies.get(1)));
    }

    /**
     * Returns the later of the time that was found and the one that is known. A failover can lose
     * it.
     */
    private byte[] latest(byte[] found, boolean isString) {
        long known = revoked.get();
        String text = found == null ? "" : new String(found, StandardCharsets.ISO_8859_1);
        long time = text.length() == 12 ? Texts.hex(text) : text.isEmpty() ? 0 : -1;
        if (time < 0 || !isString) {
            return found; // malformed: the reader reports it
        }
        if (time < known) {
            ends.restoreRevoked(known);
            return Texts.bytes(String.format("%012x", known));
        }
        revoked.accumulateAndGet(time, Math::max);
        return found;
    }

    /** Returns the time of the last revocation of everybody, 0 for never, and the server's time. */
    long[] readRevoked() throws Malformed {
        String key = namespace + ":revoked";
        List<Object> replies = read(() -> List.of(call(CommandType.GET, key), timeCall(key)));
        boolean isString = !(replies.get(0) instanceof Failure);
        byte[] found = latest(replies.get(0) instanceof byte[] bytes ? bytes : null, isString);
        return new long[] {Reading.revokedTime(new Reading.Found(null, null, found, isString, 0), namespace), time(replies.get(1))};
    }

    long knownRevoked() {
        return revoked.get();
    }

    // Revocation of everybody.

    void revokeAll() {
        long at = raise("");
        long[] latest = {at};
        List<Connection.Node> primaries = primaries();
        for (Connection.Node node : primaries) {
            latest[0] = Math.max(latest[0], time(ask(node, () -> List.of(new Call(CommandType.TIME, Connection.args()))).get(0)));
        }
        long limit = Math.min(latest[0], at + 60_000);
        if (limit > at) {
            at = raise(Long.toString(limit));
        }
        Replicas r = replicas;
        SessionException tooFew = null;
        if (r != null) {
            try {
                String time = Long.toString(at);
                r.await(this, () -> scriptCall(Script.of("revokeall.lua"), true, List.of(namespace + ":revoked"), List.of(time, "1")));
            } catch (SessionException e) {
                tooFew = e;
            }
        }
        for (Connection.Node node : primaries) {
            removeRevoked(node, at);
        }
        if (tooFew != null) {
            throw tooFew;
        }
    }

    long raise(String to) {
        Reply r = run("revokeall.lua", Repeat.ALWAYS, List.of(namespace + ":revoked"), List.of(to, "0"));
        if (!r.status().equals("ok")) {
            throw r.unexpected("revoke everybody");
        }
        return revoked.accumulateAndGet(r.number(2), Math::max);
    }

    List<Connection.Node> primaries() {
        return repeat(Repeat.ALWAYS, connection::primaries);
    }

    static List<Object> ask(Connection.Node node, java.util.function.Supplier<List<Call>> calls, long deadline) throws Failure {
        List<Call> sent = calls.get();
        node.send(sent);
        return replies(sent, deadline);
    }

    private List<Object> ask(Connection.Node node, java.util.function.Supplier<List<Call>> calls) {
        return repeat(Repeat.ALWAYS, deadline -> ask(node, calls, deadline));
    }

    private void removeRevoked(Connection.Node node, long at) {
        String cursor = "0";
        do {
            String from = cursor;
            List<?> page = (List<?>) ask(node, () -> List.of(new Call(CommandType.SCAN, Connection.args().add(from)
                .add("MATCH").add(namespace + ":{????}:s:*").add("COUNT").add(1000)))).get(0);
            cursor = new String((byte[]) page.get(0), StandardCharsets.US_ASCII);
            List<String> keys = new ArrayList<>();
            for (Object key : (List<?>) page.get(1)) {
                keys.add(new String((byte[]) key, StandardCharsets.UTF_8));
            }
            if (keys.isEmpty()) {
                continue;
            }
            List<Object> lives = ask(node, () -> keys.stream().map(key -> call(CommandType.HGET, key, "@l")).toList());
            List<String> old = new ArrayList<>();
            for (int i = 0; i < keys.size(); i++) {
                if (lives.get(i) == null) {
                    continue; // a marker, or it has ended
                }
                String life = lives.get(i) instanceof byte[] b ? new String(b, StandardCharsets.ISO_8859_1) : "";
                long created = life.length() == 58 ? Texts.hex(life.substring(22, 34)) : 0;
                if (created <= at) {
                    old.add(keys.get(i));
                }
            }
            if (!old.isEmpty()) {
                ask(node, () -> old.stream().map(key -> call(CommandType.DEL, key)).toList());
            }
        } while (!cursor.equals("0"));
    }

    /** Reads the owner of a session; null if nobody is signed in, or the server does not answer. */
    String owner(SessionId id) {
        Object reply;
        try {
            reply = query(() -> List.of(call(CommandType.HGET, id.key(namespace), "@u"))).get(0);
        } catch (SessionException e) {
            return null;
        }
        String text = reply instanceof byte[] b ? new String(b, StandardCharsets.ISO_8859_1) : "";
        boolean valid = text.length() == 41 && Texts.isHash(text.substring(0, 22))
            && String.format("%04x", Keys.bucket(text.substring(0, 22))).equals(id.bucket());
        return valid ? text.substring(0, 22) : null;
    }

    /** Runs reads of the users' index. */
    List<Object> query(java.util.function.Supplier<List<Call>> calls) {
        return read(calls);
    }
}
