package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.Committer.Refused;
import io.github.coatcheckgo.session.DataState.Phase;
import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ThreadLocalRandom;
import java.util.function.Function;
import java.util.function.Supplier;

/** Changes that the store decides: take, update, and changes within a limit. Each commits. */
final class AtomicChanges {
    private static final int ATTEMPTS = 100;

    private final DataState s;
    private final Committer commits;

    AtomicChanges(DataState s, Committer commits) {
        this.s = s;
        this.commits = commits;
    }

    /** What a function of an update returns: the value, and its JSON. */
    record Updated<T>(T value, byte[] json) {}

    /** Throws why a value with this name cannot be changed. The commit throws it, too. */
    private void canSend(String name) {
        if (s.outcome.error == null) {
            try {
                s.refuse();
                String wrong = Names.check(name);
                if (wrong != null) {
                    throw DataState.fail(Kind.INVALID, wrong);
                }
            } catch (SessionException e) {
                s.outcome.keep(e);
            }
        }
        s.outcome.report();
    }

    /** Removes a value and returns it, to one request only. Null: there was none. */
    byte[] take(String name) {
        return s.locked(() -> {
            canSend(name);
            byte[] stored = s.view.fields.get(name);
            if (stored == null) {
                return null;
            }
            s.m.keys.check(name, stored); // what cannot be read stays where it is
            s.outcome.reporting(() -> commits.send(List.of(Op.of("take", name))));
            return s.open(name, commits.taken());
        });
    }

    /** Replaces a value by what f makes of it. f runs without the lock, and may run again. */
    <T> T update(String name, Function<byte[], Updated<T>> f) {
        byte[] stored = s.locked(() -> s.view.fields.get(name));
        for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
            byte[] expected = stored;
            byte[] present = s.locked(() -> {
                canSend(name);
                return s.open(name, expected);
            });
            Updated<T> next = f.apply(present);
            try {
                s.locking(() -> {
                    canSend(name);
                    s.outcome.reporting(() -> commits.send(List.of(Op.swap(name, expected, s.seal(name, next.json)))));
                });
                return next.value;
            } catch (Refused e) {
                stored = e.present;
            }
            if (attempt > 0) { // the first conflict is an old view; further ones are other requests
                pause(attempt);
            }
        }
        throw s.locked(() -> {
            s.outcome.keepReported(DataState.fail(Kind.UNAVAILABLE, "other requests keep changing field " + name));
            return s.outcome.error;
        });
    }

    static void pause(int attempt) {
        try {
            Thread.sleep(ThreadLocalRandom.current().nextInt(1 + (1 << Math.min(attempt, 5))));
        } catch (InterruptedException e) {
            Thread.currentThread().interrupt();
        }
    }

    /**
     * Commits operations that a limit may refuse, with the request's other changes. The supplier
     * may throw INVALID. Returns the value of the first operation.
     *
     * @throws SessionException LIMIT: nothing was stored, and the request goes on
     */
    String bounded(String name, Supplier<List<Op>> encoded) {
        return s.locked(() -> {
            canSend(name);
            return s.outcome.reporting(() -> {
                List<Op> own = new ArrayList<>(encoded.get());
                Op first = own.get(0);
                if (first.kind().equals("set")) {
                    own.set(0, Op.set(name, s.seal(name, first.a())));
                }
                int at = s.view.ops.size();
                try {
                    return commits.send(own).get(at);
                } catch (Refused e) {
                    throw overLimit(e.op);
                }
            });
        });
    }

    private SessionException overLimit(Op op) {
        if (s.phase == Phase.LIVE) {
            commits.reread(List.of(), List.of()); // others have changed it
        }
        String what = op.kind().equals("limit") ? "at most " + Texts.utf8(op.a()) + " entries are allowed"
            : "with " + Texts.utf8(op.a()) + " more it would not be in the range " + Texts.utf8(op.b());
        return DataState.fail(Kind.LIMIT, "field " + op.key() + ": " + what);
    }
}
