package io.github.coatcheckgo.session;

import io.github.coatcheckgo.session.DataState.Phase;

/**
 * The data of a user: fields that are the same in all sessions of the user.
 * {@link Session#userData} and {@link Sessions#userData} open it.
 */
public final class UserData extends Data {
    private final UserState s;
    private final UserCommits commits;

    UserData(Sessions m, String user, String owner, OpenedData through) {
        this(new UserCommits(new UserState(m, user, owner, through)));
    }

    private UserData(UserCommits commits) {
        super(commits.s, commits);
        s = commits.s;
        this.commits = commits;
    }

    /** Returns the id of the user whose data this is. */
    @Override
    public String user() {
        return s.user;
    }

    /** {@inheritDoc} Data that has expired meanwhile is empty. */
    @Override
    public void reload() {
        s.locking(() -> {
            s.view.ops.clear();
            s.outcome.forgive();
            s.touched = false;
            s.read();
            if (s.phase == Phase.FAILED) {
                throw s.readError;
            }
            commits.touch();
        });
    }

    String owner() {
        return s.owner;
    }

    /**
     * Reads the data, once, and moves the user's fields from the session to it.
     *
     * @throws SessionException UNAVAILABLE or SEALED; those of {@link Joining#join}
     */
    void open() {
        s.locking(() -> {
            if (s.phase == Phase.UNREAD || s.phase == Phase.FAILED) {
                s.read();
            }
            if (s.phase == Phase.FAILED) {
                throw s.readError;
            }
            if (s.through != null) {
                s.through.join(commits);
            }
        });
    }

    /** Records the use, after the response. */
    void touch() {
        s.locking(commits::touch);
    }

    void awaitTouch() {
        commits.awaitTouch();
    }

    boolean wasReported() {
        return s.locked(() -> s.outcome.reported);
    }

    /** Drops the changes and all that follows. */
    void stop(SessionException why) {
        s.locking(() -> {
            s.view.ops.clear();
            s.outcome.stop(why);
        });
    }
}
