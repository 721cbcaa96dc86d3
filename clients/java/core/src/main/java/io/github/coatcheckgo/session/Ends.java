package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Connection.Call;
import io.github.coatcheckgo.session.Connection.Failure;
import io.lettuce.core.protocol.CommandType;
import java.lang.System.Logger.Level;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * The ends that this process made. Redis replicates after it replies, so a failover can undo an
 * end. Therefore this process refuses each of these sessions itself, and repeats the ends without
 * asking whether that is needed: after 1 s, 5 s, 30 s and 5 min, after each lost connection, and
 * when a primary has changed. It remembers the last 100,000 ends, each for 24 h. One daemon thread
 * repeats them; it runs only after the first end.
 */
final class Ends implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger("coatcheck");
    private static final long[] DELAYS = {1_000, 5_000, 30_000, 300_000};
    private static final long KEEP = 24 * 3_600_000L;
    private static final int MOST = 100_000;
    private static final int BATCH = 512;
    /** Deletes a session that is there again, and leaves a marker in place. */
    private static final Script AGAIN = Script.inline("again", """
        local markers = redis.pcall('HMGET', KEYS[1], '@ended', '@moved')
        if markers[1] or markers[2] then return 0 end
        return redis.call('DEL', KEYS[1])""");

    private static final class End {
        final String owner; // null: anonymous
        final boolean moved;
        final long nanos = System.nanoTime();
        final long at = nanos / 1_000_000;
        int repeated;

        End(String owner, boolean moved) {
            this.owner = owner;
            this.moved = moved;
        }

        boolean due(long now) {
            return repeated < DELAYS.length && now - at >= DELAYS[repeated];
        }
    }

    private final RedisStore store;
    private final Map<SessionId, End> sessions = new LinkedHashMap<>(); // oldest first
    // Owner: revocation
    private final Map<String, Map.Entry<String, End>> users = new LinkedHashMap<>();
    private long restore; // the time of a revocation of everybody that a failover lost; 0: none
    private boolean all; // repeat all
    private Set<String> primaries = Set.of(); // the replication ids
    private Thread thread;
    private boolean closed;

    Ends(RedisStore store) {
        this.store = store;
    }

    private static long millis() {
        return System.nanoTime() / 1_000_000;
    }

    /** Notes the end of a session. The owner is null if nobody was signed in. */
    synchronized void ended(SessionId id, String owner) {
        add(id, new End(owner, false));
    }

    /** Notes that a sign-in replaced a session. */
    synchronized void moved(SessionId id, String owner) {
        add(id, new End(owner, true));
    }

    private void add(SessionId id, End end) {
        sessions.remove(id);
        sessions.put(id, end);
        if (sessions.size() > MOST) {
            Iterator<SessionId> oldest = sessions.keySet().iterator();
            oldest.next();
            oldest.remove();
        }
        start();
    }

    /** Notes the revocation of a user, as stored. */
    synchronized void revoked(String owner, String revocation) {
        users.remove(owner);
        users.put(owner, Map.entry(revocation, new End(owner, false)));
        start();
    }

    /**
     * Returns the time of the user's revocation that was made here before then, in System.nanoTime;
     * or null.
     */
    synchronized Long revokedBefore(String owner, long nanos) {
        Map.Entry<String, End> e = users.get(owner);
        return e == null || nanos - e.getValue().nanos <= 0 ? null : (Long) Texts.hex(e.getKey().substring(0, 12));
    }

    /** Stores the time of a revocation of everybody again. */
    synchronized void restoreRevoked(long time) {
        restore = time;
        start();
        notifyAll();
    }

    /** Repeats all ends soon. */
    synchronized void repeatAll() {
        all = true;
        notifyAll();
    }

    /** What this process knows of a session that it ended. */
    record Refusal(boolean moved, long ago) {}

    /** Returns null for a session that did not end here. */
    synchronized Refusal refusal(SessionId id) {
        End end = sessions.get(id);
        return end == null ? null : new Refusal(end.moved, millis() - end.at);
    }

    private void start() {
        if (thread == null && !closed) {
            thread = new Thread(this::loop, "coatcheck-ends");
            thread.setDaemon(true);
            thread.start();
        }
    }

    private void loop() {
        while (true) {
            Map<SessionId, End> due = new LinkedHashMap<>();
            Map<String, Map.Entry<String, End>> dueUsers = new LinkedHashMap<>();
            long everybody;
            synchronized (this) {
                try {
                    if (!all && restore == 0) {
                        wait(500);
                    }
                } catch (InterruptedException e) {
                    return;
                }
                if (closed) {
                    return;
                }
                everybody = restore;
                restore = 0;
                long now = millis();
                sessions.values().removeIf(e -> now - e.at > KEEP);
                sessions.forEach((id, e) -> {
                    if (all || e.due(now)) {
                        due.put(id, e);
                    }
                });
                users.forEach((owner, e) -> {
                    if (all || e.getValue().due(now)) {
                        dueUsers.put(owner, e);
                    }
                });
                all = false;
            }
            try {
                if (everybody > 0) {
                    store.raise(Long.toString(everybody));
                }
                repeat(due, dueUsers);
                watchPrimaries();
            } catch (Failure | RuntimeException e) {
                LOG.log(Level.DEBUG, "ends are repeated later", e);
                synchronized (this) {
                    all = true; // nothing is lost: repeat all of them, once a second
                    restore = Math.max(restore, everybody);
                }
                pause();
            }
        }
    }

    private void pause() {
        try {
            Thread.sleep(1000);
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    private void repeat(Map<SessionId, End> due, Map<String, Map.Entry<String, End>> dueUsers) throws Failure {
        List<SessionId> ids = new ArrayList<>(due.keySet());
        for (int from = 0; from < ids.size(); from += BATCH) {
            List<Call> calls = new ArrayList<>();
            for (SessionId id : ids.subList(from, Math.min(ids.size(), from + BATCH))) {
                End end = due.get(id);
                String key = id.key(store.namespace);
                String index = end.owner == null ? null : SessionId.indexKey(store.namespace, end.owner);
                if (end.moved) {
                    calls.add(RedisStore.scriptCall(Script.of("move.lua"), true,
                        index == null ? List.of(key) : List.of(key, index), List.of("again")));
                } else {
                    if (index != null) { // first: a session that only the index names has expired
                        calls.add(RedisStore.call(CommandType.ZREM, index, id.name()));
                    }
                    calls.add(RedisStore.scriptCall(AGAIN, true, List.of(key), List.of()));
                }
            }
            long deadline = store.connection.deadline();
            store.connection.send(calls, deadline);
            for (Call call : calls) {
                call.reply(deadline);
            }
        }
        for (Map.Entry<String, Map.Entry<String, End>> e : dueUsers.entrySet()) {
            UserSessions.again(store, e.getKey(), e.getValue().getKey());
        }
        synchronized (this) {
            long now = millis();
            due.values().forEach(e -> settle(e, now));
            dueUsers.values().forEach(e -> settle(e.getValue(), now));
            users.values().removeIf(e -> now - e.getValue().at > KEEP);
        }
    }

    private static void settle(End end, long now) {
        while (end.due(now)) {
            end.repeated++;
        }
    }

    /** Repeats all ends when a primary has changed. */
    private void watchPrimaries() throws Failure {
        Set<String> found = new HashSet<>();
        long deadline = store.connection.deadline();
        for (Connection.Node node : store.connection.primaries(deadline)) {
            Object reply = RedisStore.ask(node, () -> List.of(new Call(CommandType.INFO, Connection.args().add("replication"))), deadline).get(0);
            String info = new String((byte[]) reply, StandardCharsets.US_ASCII);
            info.lines().filter(line -> line.startsWith("master_replid:")).forEach(found::add);
        }
        synchronized (this) {
            if (!primaries.isEmpty() && !found.equals(primaries)) {
                all = true;
            }
            primaries = found;
        }
    }

    @Override
    public synchronized void close() {
        closed = true;
        notifyAll();
    }
}
