package io.github.coatcheckgo.session;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import io.github.coatcheckgo.session.SessionException.Kind;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

/** What the contract suite does not say about fields. */
class FieldsTest {
    private static final Value<Long> N = Value.of("n", Codec.LONG);
    private static final MapField<Long> MAP = MapField.of("m", Codec.LONG);

    @Test
    void anUpdateOfANewSessionSeesTheRequestsOwnChange() {
        try (RedisStore store = Server.store()) {
            Session s = new Sessions(store, new Config()).begin((String) null).read();
            List<Optional<Long>> seen = new ArrayList<>();
            N.set(s, 5L);
            assertEquals(6, N.update(s, present -> {
                seen.add(present);
                return present.orElse(0L) + 1;
            }));
            assertEquals(List.of(Optional.of(5L)), seen);
            assertEquals(6, N.get(s, 0L));
        }
    }

    @Test
    void theRequestGoesOnAfterALimit() {
        try (RedisStore store = Server.store()) {
            Sessions m = new Sessions(store, new Config());
            Session s = m.begin((String) null).read();
            assertEquals(Kind.LIMIT, assertThrows(SessionException.class, () -> MAP.setWithin(s, "a", 1L, 0)).kind());
            assertEquals("", s.handle());
            MAP.setWithin(s, "a", 1L, 1);
            N.set(s, 5L);
            assertEquals(Kind.LIMIT, assertThrows(SessionException.class, () -> MAP.setWithin(s, "b", 1L, 1)).kind());
            assertEquals(Optional.empty(), MAP.get(s, "b"));
            assertEquals(5, N.get(s, 0L));
            s.commitBeforeHeader(true);
            Session after = m.begin(s.newToken()).read();
            assertEquals(5, N.get(after, 0L));
            assertEquals(1, MAP.all(after).size());
        }
    }

    @Test
    void aCountOutOfItsRangeComesCloserBeforeTheSessionIsStored() {
        try (RedisStore store = Server.store()) {
            Counter count = Counter.of("count");
            Session s = new Sessions(store, new Config()).begin((String) null).read();
            count.add(s, 18);
            assertEquals(Kind.LIMIT, assertThrows(SessionException.class, () -> count.addWithin(s, 1, 0, 9)).kind());
            assertEquals(Kind.LIMIT, assertThrows(SessionException.class, () -> count.addWithin(s, -19, 0, 9)).kind());
            assertEquals("", s.handle());
            assertEquals(17, count.addWithin(s, -1, 0, 9));
        }
    }

    @Test
    void anArgumentThatIsNoLimitFailsTheCommit() {
        try (RedisStore store = Server.store()) {
            Session s = new Sessions(store, new Config()).begin((String) null).read();
            assertEquals(Kind.INVALID, assertThrows(SessionException.class, () -> MAP.setWithin(s, "a", 1L, -1)).kind());
            assertEquals(Kind.INVALID, assertThrows(SessionException.class, s::commit).kind());
        }
    }
}
