package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.RedisStore.Repeat;
import io.github.coatcheckgo.session.RedisStore.Reply;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.TreeMap;

/** Stores the changes of user data. The first one creates it. */
final class UserCommits extends Committer {
    private static final int ATTEMPTS = 100;

    final UserState s;
    private final View view;

    UserCommits(UserState s) {
        super(s);
        this.s = s;
        view = s.view;
    }

    @Override
    List<String> send(List<Op> more) {
        return settle(() -> {
            s.refuse();
            if (s.through != null) {
                s.through.admit(s.owner);
            }
            return transmit(more);
        });
    }

    /** Sends the changes, until others neither create the data meanwhile nor does it expire. */
    private Sent transmit(List<Op> more) {
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            if (attempt > 1) {
                AtomicChanges.pause(attempt);
            }
            List<Op> all = changes(more);
            Sent sent = s.phase == Phase.ANONYMOUS ? create(all) : apply(all);
            if (sent != null) {
                return sent;
            }
        }
        throw DataState.fail(Kind.UNAVAILABLE, s.about() + " is created and deleted again and again");
    }

    /** Stores data without fields, unless some is stored. */
    void ensureStored() {
        for (int attempt = 0; s.phase == Phase.ANONYMOUS && attempt < ATTEMPTS; attempt++) {
            create(List.of());
        }
    }

    /** Stores new data. Returns null if another request was first, and shows what it stored. */
    private Sent create(List<Op> all) {
        TreeMap<String, byte[]> fields = new TreeMap<>();
        List<String> values = makeAll(all, fields);
        long idle = s.m.config.userDataTimeout.toMillis();
        String id = DataState.newSecret(); // tells a repetition from another creation
        Reply r = runCreate(id, s.key, s.owner, fields, idle, UserState.LIFETIME, idle);
        switch (r.status()) {
            case "ok", "again" -> {
                // Again: an earlier reply was lost, and others may have changed the data since
                boolean first = r.status().equals("ok");
                long time = first ? r.number(1) : view.serverTime();
                Record made = DataState.newRecord(id, s.owner, time, idle, UserState.LIFETIME);
                made.fields.putAll(fields);
                s.show(made);
                view.at(time);
                return new Sent(all, values, first);
            }
            case "exists" -> {
                s.show(s.load());
                return null;
            }
            default -> throw r.unexpected(s.about());
        }
    }

    /** Changes the data. Returns null if it has expired. */
    private Sent apply(List<Op> all) {
        long then = view.serverTime() + SLACK;
        boolean clock = then >= view.record.expires() || !s.isPassive() && view.record.touchDue("", then);
        List<Object> args = new ArrayList<>(List.of(s.owner, s.m.config.maxSize, 0, clock ? "100" : "000"));
        all.forEach(op -> op.arguments(args));
        Reply r = s.m.store.run("apply.lua", Repeat.ONCE, List.of(s.key), args);
        switch (r.status()) {
            case "ok" -> {
                s.touched |= clock;
                return new Sent(all, applied(r, all, 3), false);
            }
            case "gone" -> {
                s.show(null);
                return null;
            }
            case "refused" -> throw refused(r, all);
            default -> throw r.unexpected(s.about());
        }
    }

    @Override
    void reread(List<Op> done, List<String> values) {
        try {
            s.show(s.load());
            if (view.record != null) {
                view.settle(done, values);
            }
        } catch (SessionException e) {
            // The commit has succeeded. The next change finds out why.
        }
    }

    /** Records the use of the data, if that is due. It does not wait. */
    void touch() {
        if (s.phase == Phase.LIVE && !s.isPassive() && !s.touched && s.touchDue(view.serverTime())) {
            s.touched = true;
            touching = s.m.store.send("touch.lua", List.of(s.key), List.of(s.owner, 0, 0));
        }
    }

    /** Removes all fields. It does not read them: the keys of sealed values may be missing. */
    static void empty(UserState s) {
        List<Object> args = new ArrayList<>(List.of(s.owner, s.m.config.maxSize, 0, "100"));
        Op.of("clear", "").arguments(args);
        Reply r = s.m.store.run("apply.lua", Repeat.ONCE, List.of(s.key), args);
        if (!r.status().equals("ok") && !r.status().equals("gone")) {
            throw r.unexpected(s.about());
        }
    }
}
