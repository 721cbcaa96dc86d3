package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.lang.System.Logger.Level;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import java.util.function.Supplier;

/**
 * One request's view of a visitor's session, with the changes that the request made. It is safe for use
 * by the threads of the request; while one of them talks to the store, the others wait.
 *
 * <p>These methods talk to the store: {@link #read}, {@link #commit}, {@link #reload}, {@link #renew},
 * {@link #signIn}, {@link #signOut}, {@link #csrfToken}, and take and update of the fields. Reading and
 * changing a field does not: a mistake is kept, and fails the commit.
 */
public final class Session {
    static final System.Logger LOG = System.getLogger("coatcheck");
    private static final long RECHECK_NANOS = 50_000_000;
    private static final long ROTATION_GRACE = 30_000;

    private enum State { UNREAD, ANONYMOUS, LIVE, ENDED, MOVED, FAILED }

    private final Sessions m;
    private final Credentials credentials;
    private final Supplier<String> crossOrigin;
    private final long began = System.nanoTime();
    private final ReentrantLock lock = new ReentrantLock();

    private State state = State.UNREAD;
    private SessionException readError; // why reading failed
    private Token token; // the session's own; null: none
    private String secret; // of the session, or of the one that the first change will store
    private Record record; // as last read or committed; null: not stored
    private Principal.Who who;
    private TreeMap<String, byte[]> draft = new TreeMap<>(); // with the request's changes
    private final List<Op> ops = new ArrayList<>(); // that are not committed
    private long now; // the server's time when the record was read
    private long readAt; // System.nanoTime then
    private SessionException error; // stops every further commit
    private boolean reported; // the handler has got the error
    private boolean passive;
    private boolean named; // a read of this request has found the session
    private boolean touched; // the use is recorded

    // The response.
    private boolean used;
    private boolean sent; // the header has left
    private boolean setCookie;
    private boolean issued; // the session got a new token, which is the session's first
    private boolean renewed; // the session got a new token, and the client may have the old one
    private boolean streams; // commit or reload was called after the header had left
    private Token rotatedTo; // what the browser gets; the request goes on with its own token
    private boolean cookieSignedIn;
    private long cookieAge; // seconds; 0: the cookie goes with the browser
    private long confirmed; // System.nanoTime when the store last accepted the new token
    private boolean dropCookie;
    private boolean dropAnonymous;

    Session(Sessions m, Credentials credentials, Supplier<String> crossOrigin) {
        this.m = m;
        this.credentials = credentials;
        this.crossOrigin = crossOrigin;
        if (!credentials.tokens.isEmpty()) {
            token = credentials.tokens.get(0);
        }
    }

    private interface Locked<T> {
        T run();
    }

    private <T> T locked(Locked<T> body) {
        lock.lock();
        try {
            return body.run();
        } finally {
            lock.unlock();
        }
    }

    private void locking(Runnable body) {
        locked(() -> {
            body.run();
            return null;
        });
    }

    private static SessionException fail(Kind kind, String why) {
        return new SessionException(kind, why);
    }

    // Reading.

    /**
     * Reads the session, once: one round trip. An unknown visitor gets an empty session, which the first
     * change stores. If the visitor's session ended, or got a new token, after the request began, the
     * session is empty, too, and its changes are refused with ENDED.
     *
     * @return this
     * @throws SessionException UNAVAILABLE, AMBIGUOUS or SEALED
     */
    public Session read() {
        return locked(() -> {
            used = true;
            if (state == State.UNREAD) {
                readTokens();
            }
            if (state == State.FAILED) {
                reported = true;
                throw readError;
            }
            return this;
        });
    }

    private void readTokens() {
        if (credentials.ambiguous) {
            cannotRead(fail(Kind.AMBIGUOUS, "too many tokens"));
            dropBoth();
            return;
        }
        if (token == null) {
            reset(State.ANONYMOUS);
            return;
        }
        readToken();
        List<Token> all = credentials.tokens;
        for (int i = 1; i < all.size() && token == all.get(0) || i < all.size() && state == State.ANONYMOUS; i++) {
            if (state == State.ANONYMOUS) {
                token = all.get(i);
                readToken();
            } else if (state == State.LIVE && i < credentials.twins && opens(all.get(i))) {
                cannotRead(fail(Kind.AMBIGUOUS, "two cookies open different sessions"));
                dropBoth();
                return;
            } else {
                break;
            }
        }
        if (state == State.ANONYMOUS && token != null) {
            token = all.get(0); // a sign-out ends what the first one names
        }
    }

    private void dropBoth() {
        dropCookie = credentials.hasCookie;
        dropAnonymous = credentials.hasAnonymous;
    }

    private boolean opens(Token other) {
        try {
            Reading.Outcome outcome = ask(other).outcome;
            return outcome == Reading.Outcome.CURRENT || outcome == Reading.Outcome.GRACE;
        } catch (SessionException e) {
            return false;
        }
    }

    private void reset(State to) {
        boolean keep = state == State.ANONYMOUS;
        state = to;
        record = null;
        who = null;
        draft = new TreeMap<>();
        if (!keep) {
            secret = null;
        }
        replay();
    }

    private void cannotRead(SessionException e) {
        reset(State.FAILED);
        readError = e;
        error = e;
    }

    private void readToken() {
        Reading r;
        try {
            r = ask(token);
        } catch (SessionException e) {
            cannotRead(e);
            return;
        }
        switch (r.outcome) {
            case CURRENT, GRACE -> become(r.record);
            case SUPERSEDED, MOVED -> {
                reset(State.MOVED);
                secret = r.record == null ? null : r.record.id;
            }
            case ENDED_DURING -> reset(State.ENDED);
            case UNKNOWN, ENDED_BEFORE, NONE -> reset(State.ANONYMOUS);
            case THEFT -> {
                endStolen(r.record);
                reset(State.ANONYMOUS);
            }
            default -> throw new IllegalStateException();
        }
        if (r.outcome == Reading.Outcome.THEFT || r.outcome == Reading.Outcome.UNKNOWN) {
            token = null; // a sign-out must not end the session with this token
        }
    }

    private Reading ask(Token t) {
        Ends.Refusal refusal = m.store.ends.refusal(t.id());
        if (refusal != null) {
            long running = (System.nanoTime() - began) / 1_000_000;
            boolean during = refusal.moved() ? refusal.ago() < Reading.REMEMBERED : running > refusal.ago();
            return Reading.of(during ? refusal.moved() ? Reading.Outcome.MOVED : Reading.Outcome.ENDED_DURING : Reading.Outcome.NONE);
        }
        long asked = System.nanoTime();
        Reading.Found found = m.store.load(t.id());
        try {
            // Rather too late: a request that follows an end must not seem to have begun before it.
            long beganAt = found.now() - (asked - began) / 1_000_000 + 1;
            Reading r = Reading.decide(found, t.id(), m.store.namespace, t.generation, t.verifierHash(), beganAt);
            at(found.now());
            return r;
        } catch (Malformed e) {
            throw e.forSession(t.id().handle());
        }
    }

    private void become(Record r) {
        try {
            r.fields.forEach(m.keys::check);
            Principal.Who opened = m.who(token.id(), r);
            state = State.LIVE;
            record = r;
            who = opened;
            secret = r.id;
            named = true;
            draft = new TreeMap<>(r.fields);
            replay();
        } catch (SessionException e) {
            cannotRead(e);
        }
    }

    private void replay() {
        for (Op op : ops) {
            try {
                op.apply(draft, m.config.maxSize);
            } catch (SessionException e) {
                // The commit will refuse it.
            }
        }
    }

    private void endStolen(Record r) {
        String handle = token.id().handle();
        try {
            end(r.principal == null ? null : r.principal.owner());
            LOG.log(Level.WARNING, "session {0}: a stolen token was used; the session has ended", handle);
        } catch (SessionException e) {
            LOG.log(Level.ERROR, "session " + handle + ": a stolen token was used, and the session could not be ended", e);
        }
    }

    /**
     * Drops the changes that are not committed, and reads the session again: for connections that stay open.
     *
     * @throws SessionException ENDED if the session has ended; those of {@link #read}
     */
    public void reload() {
        locking(() -> {
            used = true;
            streams = sent;
            ops.clear();
            forgive();
            boolean had = named;
            touched = false;
            state = State.UNREAD;
            if (had) {
                readToken();
            } else {
                readTokens();
            }
            if (state == State.FAILED) {
                throw readError;
            }
            if (had && state == State.ANONYMOUS) {
                reset(State.ENDED);
            }
            if (state == State.ENDED || state == State.MOVED) {
                setCookie = false;
                throw fail(Kind.ENDED, "the session has ended, or got a new token");
            }
            touchNow(Repeat.ALWAYS);
        });
    }

    // Values.

    /** Returns a stored value, sealed or not; null if it is unset. */
    byte[] stored(String name) {
        return locked(() -> draft.get(name));
    }

    /** Returns a value in clear; null if it is unset. */
    byte[] value(String name) {
        return locked(() -> open(name, draft.get(name)));
    }

    private byte[] open(String name, byte[] value) {
        return value == null || !Keys.isSealed(value) ? value : m.keys.open(secret, name, value);
    }

    private byte[] seal(String name, byte[] plain) {
        if (!m.config.seal || plain == null) {
            return plain;
        }
        return Texts.bytes(m.keys.seal(secret(), name, plain));
    }

    private String secret() {
        if (secret == null) {
            secret = Texts.base64(Crypto.random(16));
        }
        return secret;
    }

    Map<String, byte[]> storedEntries(String field) {
        return locked(() -> {
            Map<String, byte[]> entries = new LinkedHashMap<>();
            Op.entries(draft, field).forEach((name, value) -> entries.put(name.substring(field.length() + 1), value));
            return entries;
        });
    }

    Map<String, byte[]> entries(String field) {
        return locked(() -> {
            Map<String, byte[]> entries = storedEntries(field);
            entries.replaceAll((key, value) -> open(field + ":" + key, value));
            return entries;
        });
    }

    void set(String name, Supplier<byte[]> encoded) {
        locking(() -> {
            try {
                byte[] plain = encoded.get();
                change(Op.set(name, plain), true);
            } catch (SessionException e) {
                keep(e);
            }
        });
    }

    void change(Op op) {
        locking(() -> change(op, false));
    }

    private void change(Op op, boolean seals) {
        if (error != null) {
            return;
        }
        try {
            refuse();
            String wrong = op.kind().equals("clear") ? null : Names.check(op.key());
            if (wrong != null) {
                throw fail(Kind.INVALID, wrong);
            }
            if (ops.size() >= Op.MOST) {
                throw fail(Kind.TOO_LARGE, "a commit has at most " + Op.MOST + " operations");
            }
            Op sealed = seals ? Op.set(op.key(), seal(op.key(), op.a())) : op;
            sealed.apply(draft, m.config.maxSize);
            buffer(sealed);
        } catch (SessionException e) {
            keep(e);
        }
    }

    /** Keeps an operation. A loop of changes to one value is one operation. */
    private void buffer(Op op) {
        if (op.kind().equals("clear")) {
            ops.clear();
        }
        Op last = ops.isEmpty() ? null : ops.get(ops.size() - 1);
        if (last != null && last.key().equals(op.key()) && !op.key().isEmpty()) {
            boolean replaces = (op.kind().equals("set") || op.kind().equals("unset")) && !last.kind().equals("unset-entries");
            if (replaces) {
                ops.set(ops.size() - 1, op);
                return;
            }
            if (op.kind().equals("add") && last.kind().equals("add")) {
                long a = Long.parseLong(Texts.utf8(last.a()));
                long b = Long.parseLong(Texts.utf8(op.a()));
                if ((a >= 0) == (b >= 0) && (a + b >= 0) == (a >= 0)) {
                    ops.set(ops.size() - 1, Op.add(op.key(), a + b));
                    return;
                }
            }
        }
        ops.add(op);
    }

    private void refuse() {
        switch (state) {
            case UNREAD -> throw new IllegalStateException("read() comes first");
            case ENDED, MOVED -> throw fail(Kind.ENDED, "the session ended, or got a new token, while the request was running");
            case FAILED -> throw readError;
            default -> { }
        }
    }

    /** Unsets all fields. */
    public void clear() {
        change(Op.of("clear", ""));
    }

    /** Drops the changes that are not committed, and the mistake that would fail the commit. */
    public void discard() {
        locking(() -> {
            ops.clear();
            if (state == State.LIVE) {
                draft = new TreeMap<>(record.fields);
            } else {
                draft = new TreeMap<>();
            }
            forgive();
        });
    }

    /** Makes this request no use of the session: it does not prolong it. For polls. */
    public void passive() {
        locking(() -> passive = true);
    }

    // Errors.

    private void keep(SessionException e) {
        if (e.kind() == Kind.LIMIT) {
            return; // the request goes on
        }
        boolean unknown = e.kind() == Kind.UNKNOWN_OUTCOME && error != null && error.kind() != Kind.UNKNOWN_OUTCOME;
        if (error == null || unknown) {
            error = e;
            reported = false;
        }
    }

    private void forgive() {
        if (state != State.FAILED) {
            error = null;
            reported = false;
        }
    }

    private void report() {
        if (error != null) {
            reported = true;
            throw error;
        }
    }

    /** Reports whether the handler knows of the error that stops the commit. For adapters. */
    public boolean wasReported() {
        return locked(() -> reported);
    }

    // Committing.

    /** What a function of an update returns. */
    record Updated<T>(T value, byte[] json) {}

    /**
     * Stores the changes made so far, in one atomic step. Afterwards reads are exact: they have other
     * requests' changes, too. With nothing changed it does nothing. The filter commits before the response
     * header leaves; call it to act on the outcome.
     *
     * @throws SessionException ENDED, UNAVAILABLE, UNKNOWN_OUTCOME, HEADER_SENT, CROSS_ORIGIN, TOO_LARGE,
     *     INVALID, DECODE or SEALED. After an error the session takes no more changes
     */
    public void commit() {
        locking(() -> {
            streams = sent;
            report();
            if (ops.isEmpty()) {
                return;
            }
            List<Op> sentOps = new ArrayList<>(ops);
            boolean creates = state == State.ANONYMOUS;
            List<String> values = reporting(() -> send(List.of(), null));
            if (!creates) {
                reread(sentOps, values);
            }
        });
    }

    private <T> T reporting(Locked<T> body) {
        try {
            return body.run();
        } catch (SessionException e) {
            keep(e);
            reported |= e == error;
            throw e;
        }
    }

    /** Makes the view exact after a commit. What the request changed reads as it left it. */
    private void reread(List<Op> done, List<String> values) {
        try {
            Reading r = ask(token);
            if (r.outcome == Reading.Outcome.CURRENT || r.outcome == Reading.Outcome.GRACE) {
                become(r.record);
                settle(done, values);
            }
        } catch (SessionException e) {
            // The commit has succeeded. The next change finds out why.
        }
    }

    private void settle(List<Op> done, List<String> values) {
        TreeMap<String, byte[]> fields = record.fields;
        for (int i = 0; i < done.size(); i++) {
            Op op = done.get(i);
            String value = i < values.size() ? values.get(i) : null;
            if (op.kind().equals("add") && value != null) {
                fields.put(op.key(), Texts.bytes(value));
            } else if (op.kind().equals("swap") && op.b().length > 0) {
                fields.put(op.key(), java.util.Arrays.copyOfRange(op.b(), 1, op.b().length));
            } else if (op.kind().equals("swap") || op.kind().equals("take")) {
                fields.remove(op.key());
            } else if (!op.kind().equals("add")) {
                op.apply(fields, Integer.MAX_VALUE);
            }
        }
        draft = new TreeMap<>(fields);
        replay();
    }

    /** An operation that the store refused for what it compares; the value that is stored. */
    private static final class Refused extends RuntimeException {
        private static final long serialVersionUID = 1;
        final transient Op op;
        final transient byte[] present;

        Refused(Op op, byte[] present) {
            super(null, null, false, false);
            this.op = op;
            this.present = present;
        }
    }

    /** Commits the changes, with more operations or a renewal. Returns the operations' values. */
    private List<String> send(List<Op> more, Renewal renewal) {
        if (state == State.ANONYMOUS) {
            mayIssueToken();
        } else {
            refuse();
        }
        List<Op> all = new ArrayList<>(ops);
        all.addAll(more);
        try {
            List<String> values = state == State.ANONYMOUS ? create(all) : apply(all, renewal);
            ops.clear();
            confirmed = System.nanoTime();
            if (record != null) {
                settle(all, values);
            }
            return values;
        } catch (SessionException e) {
            keep(e);
            throw e;
        }
    }

    /** A new verifier: a renewal, or with a minimum age a rotation. */
    private static final class Renewal {
        final Token token;
        final long minAge; // 0: a renewal
        long generation;
        boolean kept;

        Renewal(Token token, long minAge) {
            this.token = token;
            this.minAge = minAge;
        }
    }

    private void mayIssueToken() {
        if (sent) {
            throw fail(Kind.HEADER_SENT, "the response cannot carry a new cookie any more");
        }
        // A request that another site caused came without the cookie, because of SameSite. A new cookie
        // would replace the visitor's own.
        String why = crossOrigin.get();
        if (why != null) {
            throw fail(Kind.CROSS_ORIGIN, why);
        }
    }

    private List<String> create(List<Op> all) {
        TreeMap<String, byte[]> fields = new TreeMap<>();
        List<String> values = new ArrayList<>();
        for (Op op : all) {
            byte[] old = fields.get(op.key());
            switch (op.kind()) {
                case "take" -> {
                    fields.remove(op.key());
                    values.add(old == null ? null : Texts.utf8(old));
                }
                case "swap" -> {
                    if (!java.util.Arrays.equals(op.a(), Op.present(old))) {
                        throw new Refused(op, old);
                    }
                    fields.put(op.key(), java.util.Arrays.copyOfRange(op.b(), 1, op.b().length));
                    values.add(null);
                }
                default -> {
                    op.apply(fields, m.config.maxSize);
                    if (op.exceeds(fields)) {
                        throw new Refused(op, old);
                    }
                    values.add(op.kind().equals("add") ? Texts.utf8(fields.get(op.key())) : null);
                }
            }
        }
        long size = Op.size(fields);
        if (size > m.config.maxSize) {
            throw fail(Kind.TOO_LARGE, "more than " + m.config.maxSize + " bytes");
        }
        Token created = Token.create(Token.randomBucket());
        long idle = m.config.idleTimeout.toMillis();
        List<Object> args = new ArrayList<>(List.of(secret(), created.verifierHash(), size, idle,
            m.config.lifetime.toMillis(), m.config.firstUseTimeout.toMillis(), 0));
        fields.forEach((name, value) -> args.addAll(List.of(name, value)));
        Reply r = m.store.run("create.lua", Repeat.ALWAYS, List.of(created.id().key(m.store.namespace)), args);
        long time;
        if (r.status().equals("ok")) {
            time = r.number(1);
        } else if (r.status().equals("again")) {
            time = m.store.load(created.id()).now();
        } else {
            throw r.unexpected("session " + created.id().handle());
        }
        Record made = newRecord(created, time, idle, m.config.lifetime.toMillis(), fields);
        made.seen = time - Math.max(0, idle - m.config.firstUseTimeout.toMillis());
        issue(created, false, cookieAge(m.config.persistent, m.config.lifetime.toMillis()));
        issued = true;
        renewed = false;
        token = created;
        become(made);
        at(time);
        return values;
    }

    private void at(long time) {
        now = time;
        readAt = System.nanoTime();
    }

    private Record newRecord(Token t, long time, long idle, long lifetime, TreeMap<String, byte[]> fields) {
        Record r = new Record();
        r.id = secret;
        r.current = t.verifierHash();
        r.revision = 1;
        r.created = time;
        r.issued = time;
        r.seen = time;
        r.deadline = time + lifetime;
        r.idle = idle;
        r.fields.putAll(fields);
        return r;
    }

    private static long cookieAge(boolean persistent, long ms) {
        return persistent ? Math.max(1, ms / 1000) : 0;
    }

    private void issue(Token t, boolean signedIn, long age) {
        token = t;
        rotatedTo = null;
        setCookie = true;
        cookieSignedIn = signedIn;
        cookieAge = age;
        confirmed = System.nanoTime();
    }

    /** The request's own uses of a token that this response brings do not show that the client has it. */
    private boolean bringsToken() {
        return renewed || issued && !streams;
    }

    private String shown() {
        return bringsToken() ? "" : token.verifierHash();
    }

    private long serverTime() {
        return now + (System.nanoTime() - readAt) / 1_000_000;
    }

    private List<String> keys() {
        SessionId id = token.id();
        String key = id.key(m.store.namespace);
        return record.principal == null ? List.of(key) : List.of(key, id.revocationsKey(m.store.namespace));
    }

    private long global() {
        long known = m.store.knownRevoked();
        return record.created > known ? 0 : known;
    }

    private List<String> apply(List<Op> all, Renewal renewal) {
        try {
            return applyOnce(all, renewal);
        } catch (SessionException e) {
            if (e.kind() == Kind.ENDED && rotatedTo != null) { // the browser has used it
                token = rotatedTo;
                rotatedTo = null;
                state = State.LIVE;
                return applyOnce(all, renewal);
            }
            throw e;
        }
    }

    private List<String> applyOnce(List<Op> all, Renewal renewal) {
        SessionId id = token.id();
        if (m.store.ends.refusal(id) != null) {
            lost(State.ENDED);
        }
        // The script may run up to the timeout later.
        boolean clock = !passive && (record.touchDue(shown(), serverTime() + 2000) || serverTime() + 2000 >= record.expires());
        List<Object> args = new ArrayList<>(List.of(token.verifierHash(), m.config.maxSize, global(),
            (clock ? "1" : "0") + "0" + (bringsToken() ? "1" : "0")));
        if (renewal != null) {
            boolean rotate = renewal.minAge > 0;
            args.addAll(List.of(rotate ? "rotate" : "renew", renewal.token.verifierHash(), rotate ? ROTATION_GRACE : "",
                rotate ? renewal.minAge : ""));
        }
        all.forEach(op -> op.arguments(args));
        Repeat repeat = renewal != null && renewal.minAge == 0 ? Repeat.ALWAYS : Repeat.ONCE;
        Reply r = m.store.run("apply.lua", repeat, keys(), args);
        int first = renewal == null ? 3 : 4;
        switch (r.status()) {
            case "ok", "kept" -> {
                if (renewal != null) {
                    renewal.generation = r.number(3);
                    renewal.kept = r.status().equals("kept");
                }
                touched |= clock;
                if (r.number(1) > 0) {
                    at(r.number(1));
                }
                List<String> values = new ArrayList<>();
                for (int i = 0; i < all.size(); i++) {
                    values.add(r.text(first + i));
                }
                taken = all.isEmpty() ? null : r.bytes(first + all.size() - 1);
                return values;
            }
            case "gone" -> throw lost(State.ENDED);
            case "moved" -> throw lost(State.MOVED);
            case "refused" -> {
                Op op = all.get((int) r.number(1));
                if (r.text(2).equals("conflict") || r.text(2).equals("entries")) {
                    throw new Refused(op, r.bytes(3));
                }
                boolean large = r.text(2).equals("large") || r.text(2).equals("fields");
                throw fail(large ? Kind.TOO_LARGE : Kind.INVALID, "field " + op.key() + ": " + r.text(2));
            }
            default -> throw r.unexpected("session " + id.handle());
        }
    }

    private byte[] taken; // by the last operation

    private SessionException lost(State to) {
        state = to;
        who = null;
        setCookie = false;
        return fail(Kind.ENDED, "the session ended, or got a new token, while the request was running");
    }

    byte[] take(String name) {
        return locked(() -> {
            canSend(name);
            byte[] stored = draft.get(name);
            if (stored == null) {
                return null;
            }
            m.keys.check(name, stored); // what cannot be read stays where it is
            if (state == State.ANONYMOUS) {
                taken = stored;
                reporting(() -> send(List.of(Op.of("take", name)), null));
                return open(name, stored);
            }
            reporting(() -> send(List.of(Op.of("take", name)), null));
            return open(name, taken);
        });
    }

    private void canSend(String name) {
        if (error == null) {
            try {
                refuse();
                String wrong = Names.check(name);
                if (wrong != null) {
                    throw fail(Kind.INVALID, wrong);
                }
            } catch (SessionException e) {
                keep(e);
            }
        }
        report();
    }

    <T> T update(String name, Function<byte[], Updated<T>> f) {
        byte[] stored = stored(name);
        for (int attempt = 0; attempt < 100; attempt++) {
            byte[] expected = stored;
            locking(() -> canSend(name));
            byte[] present = locked(() -> open(name, expected));
            Updated<T> next = f.apply(present);
            try {
                locking(() -> {
                    canSend(name);
                    reporting(() -> send(List.of(Op.swap(name, expected, seal(name, next.json))), null));
                });
                return next.value;
            } catch (Refused e) {
                stored = e.present;
            }
            if (attempt > 0) {
                sleep(attempt);
            }
        }
        throw locked(() -> {
            keep(fail(Kind.UNAVAILABLE, "other requests keep changing field " + name));
            reported = true;
            return error;
        });
    }

    /** Commits operations that a limit may refuse. The supplier may throw INVALID. Returns the first one's value. */
    String bounded(String name, Supplier<List<Op>> encoded) {
        return locked(() -> {
            canSend(name);
            return reporting(() -> {
                List<Op> own = new ArrayList<>(encoded.get());
                Op first = own.get(0);
                if (first.kind().equals("set")) {
                    own.set(0, Op.set(name, seal(name, first.a())));
                }
                int at = ops.size();
                try {
                    List<String> values = send(own, null);
                    return at < values.size() ? values.get(at) : null;
                } catch (Refused e) {
                    throw overLimit(e.op);
                }
            });
        });
    }

    private SessionException overLimit(Op op) {
        if (state == State.LIVE) {
            reread(List.of(), List.of()); // without the operation
        }
        String what = op.kind().equals("limit") ? "at most " + Texts.utf8(op.a()) + " entries are allowed"
            : "with " + Texts.utf8(op.a()) + " more it would not be in the range " + Texts.utf8(op.b());
        return fail(Kind.LIMIT, "field " + op.key() + ": " + what);
    }

    private static void sleep(int attempt) {
        try {
            Thread.sleep(java.util.concurrent.ThreadLocalRandom.current().nextInt(1 + (1 << Math.min(attempt, 5))));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    // Tokens.

    /**
     * Changes the token: call it when a user's privileges change. It commits. The old token stops working at
     * once. Errors: those of {@link #commit}.
     */
    public void renew() {
        locking(() -> {
            report();
            reporting(() -> {
                refuse();
                if (state == State.ANONYMOUS) {
                    return ops.isEmpty() ? null : send(List.of(), null);
                }
                if (sent) {
                    throw fail(Kind.HEADER_SENT, "the response cannot carry a new cookie any more");
                }
                Renewal n = new Renewal(token.renewed(0), 0);
                send(List.of(), n);
                boolean first = issued && !renewed && setCookie; // the token before has not left
                record.previous = token.verifierHash();
                record.current = n.token.verifierHash();
                record.unused = true;
                record.accepted = false;
                record.generation = n.generation;
                record.issued = serverTime();
                issue(n.token.withGeneration(n.generation), who != null, cookieAge(isPersistent(), record.deadline - serverTime()));
                issued = first;
                renewed = !first;
                touched = false;
                return null;
            });
        });
    }

    private boolean isPersistent() {
        return record.principal == null ? m.config.persistent : record.principal.persistent();
    }

    private Renewal dueRotation(boolean canSetCookie) {
        long every = m.config.rotateEvery.toMillis();
        boolean fromCookie = credentials.hasCookie || credentials.hasAnonymous;
        if (every == 0 || state != State.LIVE || passive || sent || !canSetCookie || !fromCookie || setCookie || rotatedTo != null
            || !record.rotationDue(token.verifierHash(), every, serverTime())) {
            return null;
        }
        long next = record.generation + (record.current.equals(token.verifierHash()) ? 1 : 0);
        return new Renewal(token.renewed(next), every);
    }

    private void rotated(Renewal n) {
        if (n.kept) {
            return;
        }
        rotatedTo = n.token.withGeneration(n.generation);
        setCookie = true;
        cookieSignedIn = who != null;
        cookieAge = cookieAge(isPersistent(), record.deadline - serverTime());
    }

    /**
     * Commits what the handler changed, and rotates an old token. Afterwards it is too late for a new cookie.
     * For adapters, before the response header leaves.
     *
     * @param canSetCookie whether the response can carry a cookie
     * @throws SessionException why nothing was stored; the response must report it
     */
    public void commitBeforeHeader(boolean canSetCookie) {
        locking(() -> {
            try {
                commitOnly(canSetCookie);
            } finally {
                recheckCookie();
                sent = true;
            }
        });
    }

    /** Is {@link #commitBeforeHeader}, but the response can still carry another cookie afterwards. For adapters. */
    public void commitOnly(boolean canSetCookie) {
        locking(() -> {
            if (error != null) {
                throw error;
            }
            Renewal n = dueRotation(canSetCookie);
            if (!ops.isEmpty()) {
                send(List.of(), n);
                if (n != null) {
                    rotated(n);
                }
            } else if (n != null) {
                rotateAlone(n);
            }
        });
    }

    /** Commits a rotation and nothing else. If it fails, the request does not: its own token stays good. */
    private void rotateAlone(Renewal n) {
        State before = state;
        SessionException errorBefore = error;
        try {
            apply(List.of(), n);
            rotated(n);
        } catch (SessionException e) {
            state = before;
            error = errorBefore;
            if (e.kind() != Kind.ENDED) {
                LOG.log(Level.WARNING, "session " + token.id().handle() + ": a token was not rotated; a later request will try again", e);
            }
        }
    }

    /** Drops a new token from the response if another request has superseded it, or has ended the session. */
    private void recheckCookie() {
        if (!setCookie || rotatedTo != null || System.nanoTime() - confirmed < RECHECK_NANOS) {
            return;
        }
        try {
            if (ask(token).outcome != Reading.Outcome.CURRENT) {
                setCookie = false;
            }
        } catch (SessionException e) {
            // The token leaves: the store did not say anything against it.
        }
    }

    /** Drops the changes and all that follows, after an exception of the handler. For adapters. */
    public void abandon(SessionException why) {
        locking(() -> {
            ops.clear();
            error = why;
            reported = true;
            recheckCookie();
            sent = true;
        });
    }

    // Signing in and out.

    /** Returns the signed-in user's id, or "" if nobody is signed in. */
    public String user() {
        return locked(() -> who == null || state != State.LIVE ? "" : Info.userOf(who));
    }

    /** Returns what is known about the session; null if none is stored. */
    public Info info() {
        return locked(() -> state == State.LIVE ? Info.of(token.id(), record, who) : null);
    }

    /**
     * Reports whether the session ended, or got a new token, while the request was running: it is empty, and
     * takes no changes.
     */
    public boolean isOver() {
        return locked(() -> state == State.ENDED || state == State.MOVED);
    }

    /** Returns how long the session lives without a use. */
    public java.time.Duration idleTimeout() {
        return locked(() -> state == State.LIVE ? java.time.Duration.ofMillis(record.idle) : m.config.idleTimeout);
    }

    /** Returns the names of the fields that are set. An entry of a map has the name "field:key". */
    public java.util.Set<String> names() {
        return locked(() -> new java.util.TreeSet<>(draft.keySet()));
    }

    /** Returns the public name of the session, for logs; "" if none is stored. It grants no access. */
    public String handle() {
        return locked(() -> state == State.LIVE ? token.id().handle() : "");
    }

    /**
     * Signs a user in. It commits. The user gets a new session under a new token; the old token no longer opens
     * a session. Of an anonymous session the fields of {@link Config#keepFields} are kept; of a session of the
     * same user all; of another user's none. Changes that this request made and did not commit are kept.
     *
     * @throws SessionException TOO_MANY or REVOKED: the session goes on as it was. HEADER_SENT, INVALID, and those
     *     of {@link #commit}
     */
    public void signIn(Login login) {
        locking(() -> {
            Users.SignIn x = signInOf(login);
            if (state == State.UNREAD) {
                throw new IllegalStateException("read() comes first");
            }
            if ((state == State.ENDED || state == State.MOVED) && error != null && error.kind() == Kind.ENDED) {
                forgive(); // signing in is how to go on after an end
            }
            if (state == State.FAILED) {
                keep(readError);
            }
            report();
            try {
                enter(x);
            } catch (SessionException e) {
                if (e.kind() != Kind.TOO_MANY && e.kind() != Kind.REVOKED) {
                    keep(e);
                    reported |= e == error;
                }
                throw e;
            }
        });
    }

    private Users.SignIn signInOf(Login l) {
        if (Texts.hasLoneSurrogate(l.user)) {
            throw fail(Kind.INVALID, "Login: the user is not Unicode");
        }
        Principal.Who in = new Principal.Who(Texts.bytes(l.user), l.methods, Texts.cut(l.device, 128), Texts.cut(l.userAgent, 512),
            Texts.cut(l.address, 64));
        String wrong = in.check();
        if (wrong == null && (l.level < 0 || l.level > 99)) {
            wrong = "a level is 0 to 99";
        }
        if (wrong != null) {
            throw fail(Kind.INVALID, "Login: " + wrong);
        }
        Users.SignIn x = new Users.SignIn();
        limits(l, x);
        long ago = l.began == null ? 0 : nanosAgo(l.began);
        x.beganAt = l.began == null ? began : System.nanoTime() - ago;
        if (ago > 86_400_000_000_000L) {
            throw fail(Kind.INVALID, "Login.began is more than 24 h ago");
        }
        if (l.authenticated != null) {
            long before = m.config.clock.instant().toEpochMilli() - l.authenticated.toEpochMilli();
            if (before < -60_000 || before > Config.MAX_LIFETIME.toMillis() - 60_000) {
                throw fail(Kind.INVALID, "Login.authenticated is more than 10 years ago, or more than a minute ahead");
            }
            x.authenticatedAgo = Math.max(0, before);
        }
        x.secret = Texts.base64(Crypto.random(16));
        String info = in.encode();
        if (m.config.seal) {
            info = m.keys.seal(x.secret, "@i", Texts.bytes(info));
        }
        boolean persistent = !l.remember.isZero() || m.config.persistent;
        x.principal = new Principal(m.keys.owner(in.user()), 0, l.level, persistent, info);
        x.max = m.config.maxPerUser;
        x.refuse = m.config.refuseExtra;
        return x;
    }

    private long nanosAgo(java.time.Instant at) {
        java.time.Duration d = java.time.Duration.between(at, m.config.clock.instant());
        return d.compareTo(java.time.Duration.ofDays(30)) > 0 ? Long.MAX_VALUE / 4 : Math.max(0, d.toNanos());
    }

    private void limits(Login l, Users.SignIn x) {
        Config c = m.config;
        long remember = l.remember.toMillis();
        long lifetime = l.lifetime.toMillis();
        boolean valid = l.remember.isZero() || remember > 0 && l.remember.compareTo(c.maxRemember) <= 0;
        valid &= l.lifetime.isZero() || lifetime > 0 && l.lifetime.compareTo(c.lifetime) <= 0;
        if (!valid || !l.remember.isZero() && !l.lifetime.isZero()) {
            throw fail(Kind.INVALID, "Login: remember is at most Config.maxRemember, lifetime at most Config.lifetime, and not both are set");
        }
        x.lifetime = remember > 0 ? remember : lifetime > 0 ? lifetime : c.lifetime.toMillis();
        x.idle = remember > 0 ? remember : Math.min(c.idleTimeout.toMillis(), x.lifetime);
    }

    private void enter(Users.SignIn x) {
        mayIssueToken();
        List<Op> mine = reseal(ops, x.secret);
        Token t = Token.create(Keys.bucket(x.principal.owner()));
        x.id = t.id();
        x.verifierHash = t.verifierHash();
        if (state == State.LIVE) {
            x.from = token.id();
            x.fromVerifier = token.verifierHash();
        }
        x.fields = old -> {
            TreeMap<String, byte[]> fields = kept(old, x);
            mine.forEach(op -> op.apply(fields, m.config.maxSize));
            if (Op.size(fields) > m.config.maxSize) {
                throw fail(Kind.TOO_LARGE, "more than " + m.config.maxSize + " bytes");
            }
            return fields;
        };
        try {
            Users.signIn(m.store, x);
        } catch (SessionException e) {
            if (e.kind() == Kind.UNKNOWN_OUTCOME && x.stored != null && x.time > 0) {
                issueSignedIn(t, x); // the session exists, so its token leaves
            }
            throw e;
        }
        ops.clear();
        issueSignedIn(t, x);
    }

    private void issueSignedIn(Token t, Users.SignIn x) {
        secret = x.secret;
        Record made = newRecord(t, x.time, x.idle, x.lifetime, x.stored);
        Principal p = x.principal;
        made.principal = new Principal(p.owner(), Math.max(0, x.time - x.authenticatedAgo), p.level(), p.persistent(), p.info());
        issue(t, true, cookieAge(p.persistent(), x.lifetime));
        issued = true;
        renewed = false;
        touched = false;
        state = State.UNREAD;
        if (!made.principal.sealed()) {
            try {
                made.who = Principal.parse(p.info());
            } catch (Malformed e) {
                throw new IllegalStateException(e);
            }
        }
        become(made);
        at(x.time);
    }

    private List<Op> reseal(List<Op> list, String to) {
        List<Op> out = new ArrayList<>();
        for (Op op : list) {
            boolean sealed = op.kind().equals("set") && Keys.isSealed(op.a());
            out.add(sealed ? Op.set(op.key(), Texts.bytes(m.keys.seal(to, op.key(), open(op.key(), op.a())))) : op);
        }
        return out;
    }

    private TreeMap<String, byte[]> kept(Record old, Users.SignIn x) {
        TreeMap<String, byte[]> kept = new TreeMap<>();
        if (old == null) {
            return kept;
        }
        boolean same = old.principal != null && old.principal.owner().equals(x.principal.owner());
        old.fields.forEach((name, value) -> {
            String field = name.contains(":") ? name.substring(0, name.indexOf(':')) : name;
            if (same || old.principal == null && m.config.keepFields.contains(field)) {
                byte[] plain = m.keys.open(old.id, name, value);
                kept.put(name, Keys.isSealed(value) ? Texts.bytes(m.keys.seal(x.secret, name, plain)) : value);
            }
        });
        return kept;
    }

    /**
     * Ends the session at once and for all requests, and drops what was not committed. The response deletes the
     * cookie. Afterwards this is the empty session of an unknown visitor. It works without {@link #read}.
     *
     * @throws SessionException ENDED if a sign-in in another request has replaced the session: the new session is
     *     alive. UNAVAILABLE: the session may be alive, and the response deletes the cookie
     */
    public void signOut() {
        locking(() -> {
            used = true;
            if (state == State.MOVED && !named) {
                throw fail(Kind.ENDED, "a sign-in has replaced the session");
            }
            SessionException failed = null;
            if (token != null) {
                try {
                    end(record == null || record.principal == null ? null : record.principal.owner());
                } catch (SessionException e) {
                    if (e.kind() == Kind.ENDED) {
                        lost(State.MOVED);
                        throw e;
                    }
                    failed = e;
                }
            }
            ops.clear();
            rotatedTo = null;
            setCookie = false;
            dropBoth();
            forgetSession(failed == null ? State.ANONYMOUS : State.ENDED);
            if (failed != null) {
                SessionException e = new SessionException(Kind.UNAVAILABLE, "signing out: " + failed.getMessage(), failed);
                error = e;
                reported = true;
                throw e;
            }
            token = null;
        });
    }

    private void forgetSession(State to) {
        state = State.UNREAD;
        error = null;
        reported = false;
        issued = false;
        renewed = false;
        reset(to);
    }

    private void end(String owner) {
        String index = owner == null && record == null ? m.store.owner(token.id()) : owner;
        Users.endOne(m.store, token.id(), index, record != null);
    }

    // CSRF.

    /**
     * Returns a CSRF token of the session, a different one each time. It stores a session that is not stored yet.
     * Put it into the form field "csrf_token" or the header "X-CSRF-Token".
     */
    public String csrfToken() {
        return locked(() -> {
            if (state == State.ANONYMOUS) {
                report();
                reporting(() -> send(List.of(), null));
            }
            refuse();
            return Csrf.token(secret);
        });
    }

    /** Throws CSRF if the token is not one of this session. A session that is not stored has none. */
    public void checkCsrf(String csrfToken) {
        locking(() -> {
            if (state != State.LIVE && state != State.MOVED || secret == null || !Csrf.isValid(secret, csrfToken == null ? "" : csrfToken)) {
                throw fail(Kind.CSRF, "no CSRF token of this session");
            }
        });
    }

    /** Reports whether the request's cookie opens a session, so that it needs a CSRF token. For adapters. */
    public boolean isOpen() {
        return locked(() -> state == State.LIVE || state == State.MOVED && secret != null);
    }

    /** Reports whether the request has a cookie of ours. For adapters. */
    public boolean hasCookie() {
        return credentials.hasCookie || credentials.hasAnonymous;
    }

    // The response.

    /** Records the use of the session, if that is due. It does not wait. For adapters, after the response. */
    public void touch() {
        locking(() -> touchNow(null));
    }

    private void touchNow(Repeat repeat) {
        if (state != State.LIVE || passive || touched || !record.touchDue(shown(), serverTime())) {
            return;
        }
        touched = true;
        String name = renewed ? "apply.lua" : "touch.lua";
        // A use by the request that renewed the token is a change without operations.
        List<Object> args = renewed ? List.of(token.verifierHash(), m.config.maxSize, global(), "101")
            : List.of(token.verifierHash(), global(), 0);
        if (repeat == null) {
            touching = m.store.send(name, keys(), args);
            return;
        }
        Reply r = m.store.run(name, repeat, keys(), args);
        if (!r.status().equals("ok")) {
            throw lost(r.status().equals("moved") ? State.MOVED : State.ENDED);
        }
    }

    private java.util.concurrent.CompletableFuture<?> touching;

    /** Waits for {@link #touch}, for tests. */
    void awaitTouch() {
        if (touching != null) {
            touching.exceptionally(e -> null).orTimeout(5, java.util.concurrent.TimeUnit.SECONDS).exceptionally(e -> null).join();
        }
    }

    /** Returns the token that the response brings, or null. For adapters, after {@link #commitBeforeHeader}. */
    public String newToken() {
        return locked(() -> setCookie ? (rotatedTo != null ? rotatedTo : token).text(m.keys) : null);
    }

    /** Reports whether the response deletes the cookie. For adapters. */
    public boolean deletesToken() {
        return locked(() -> !setCookie && (dropCookie || dropAnonymous));
    }

    /** The headers of a response. */
    public interface Headers {
        /** Adds a line. */
        void add(String name, String value);

        /** Replaces all lines of the name. */
        void set(String name, String value);

        /** Returns the lines of the name. */
        java.util.Collection<String> get(String name);
    }

    /**
     * Writes what the response has to say about the session: the cookie, and how it may be cached. For adapters.
     *
     * @return whether the header sets or deletes a cookie
     */
    public boolean writeHeaders(Headers h) {
        return locked(() -> {
            if (!used) {
                return false;
            }
            Cookies.vary(h);
            boolean changes = false;
            Config c = m.config;
            if (setCookie) {
                String name = cookieSignedIn ? c.cookieName : c.cookieName + Credentials.ANONYMOUS;
                h.add("Set-Cookie", Cookies.line(c, name, newToken(), cookieAge));
                dropCookie &= !cookieSignedIn;
                dropAnonymous = cookieSignedIn && credentials.hasAnonymous;
                changes = true;
            }
            if (dropCookie) {
                h.add("Set-Cookie", Cookies.line(c, c.cookieName, "", -1));
            }
            if (dropAnonymous) {
                h.add("Set-Cookie", Cookies.line(c, c.cookieName + Credentials.ANONYMOUS, "", -1));
            }
            changes |= dropCookie || dropAnonymous;
            Cookies.caching(h, changes);
            setCookie = false;
            dropCookie = false;
            dropAnonymous = false;
            return changes;
        });
    }
}
