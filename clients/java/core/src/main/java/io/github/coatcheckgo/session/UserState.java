package io.github.coatcheckgo.session;

/** What the parts of a {@link UserData} share. They hold the lock while they use it. */
final class UserState extends DataState {
    /** Only the idle timeout is meant to end user data. */
    static final long LIFETIME = 3_153_600_000_000L;
    private static final long LEAST_TOUCH = 3_600_000;

    final String user;
    final String owner;
    final String key;
    final OpenedData through; // of the session that opened it; null: Sessions.userData did

    UserState(Sessions m, String user, String owner, OpenedData through) {
        super(m);
        this.user = user;
        this.owner = owner;
        this.through = through;
        key = SessionId.dataKey(m.store.namespace, owner);
        secret = owner; // and not the id: the data may expire and be created anew
    }

    /** Names the data in errors. */
    String about() {
        return "the user data " + UserIndex.bucket(owner) + "-" + owner;
    }

    /** Shows what is stored, under the changes that are not committed. */
    void read() {
        try {
            show(load());
        } catch (SessionException e) {
            phase = Phase.FAILED;
            readError = e;
            view.show(null);
        }
    }

    /**
     * Reads the data. Returns null if none is stored, or if it has expired.
     *
     * @throws SessionException UNAVAILABLE
     */
    Record load() {
        RedisStore.Hash found = m.store.loadHash(key);
        try {
            if (found.values() == null) {
                throw new Malformed(key, "not a hash");
            }
            view.at(found.now());
            Record r = found.values().isEmpty() ? null : parse(found);
            return r == null || found.now() >= r.expires() ? null : r;
        } catch (Malformed e) {
            throw e.about(about());
        }
    }

    private Record parse(RedisStore.Hash found) throws Malformed {
        Record r = Record.parse(found.values()).record();
        if (r == null || r.principal != null || !r.current.equals(owner) || !r.previous.isEmpty()) {
            throw new Malformed("@s", "not user data of this owner");
        }
        return r;
    }

    /**
     * Shows this record, or with null that none is stored, under the changes that are not
     * committed.
     *
     * @throws SessionException SEALED if a key is missing
     */
    void show(Record r) {
        if (r != null) {
            r.fields.forEach(m.keys::check);
        }
        phase = r == null ? Phase.ANONYMOUS : Phase.LIVE;
        view.show(r);
    }

    boolean isPassive() {
        return through != null && through.isPassive();
    }

    /** Reports whether a use alone is worth a write: all nodes then drop their copies. */
    boolean touchDue(long now) {
        Record r = view.record;
        return now - r.seen > Math.min(r.idle / 20, LEAST_TOUCH) && r.touchDue("", now);
    }
}
