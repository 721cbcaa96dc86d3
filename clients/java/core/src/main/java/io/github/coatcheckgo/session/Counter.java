package io.github.coatcheckgo.session;

import java.util.List;

/** A field with one count. Concurrent additions add up. It is exact to 64 bits. */
public final class Counter extends Field {
    private Counter(String name) {
        super(name);
    }

    /** Declares a field. Its name has 1 to 64 of a-z A-Z 0-9 . _ - */
    public static Counter of(String name) {
        return new Counter(name);
    }

    @Override
    boolean adds() {
        return true;
    }

    /** Returns the count as this request sees it. It is 0 if the field is unset. */
    public long get(Data d) {
        return count(name, d.stored(name));
    }

    /**
     * Adds n, which may be negative. A sum that does not fit in 64 bits fails the commit as
     * INVALID.
     */
    public void add(Data d, long n) {
        d.change(Op.add(name, n));
    }

    /**
     * Adds n, which may be negative, unless the count would leave the range from least to most. It
     * commits the request's other changes in the same step. The store decides, so the bounds hold
     * for concurrent requests: use it for stock, seats or attempts. A count that is out of the
     * range already may come closer.
     *
     * @return the new count
     * @throws SessionException LIMIT if the count would leave the range: nothing was stored, and
     *     the other changes are still pending; those of {@link Data#commit}
     */
    public long addWithin(Data d, long n, long least, long most) {
        return Long.parseLong(d.atomic.bounded(name, () -> List.of(Op.addWithin(name, n, least, most))));
    }

    /** Unsets the field. */
    public void reset(Data d) {
        d.change(Op.of("unset", name));
    }
}
