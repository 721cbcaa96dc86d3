import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Counter, Sessions, Value, isSessionError, type Config, type ErrorCode, type FieldSet, type Session } from '../dist/index.js';
import { Server } from './server.js';
import { Shop, cart, contents, gifts, lost, n, notice, refused, theme, type Visitor } from './shop.js';

const fails = (code: ErrorCode) => (error: unknown) => isSessionError(error, code);

const sealed: Config = { keys: [Buffer.alloc(32, 1)], userKey: Buffer.alloc(32, 2), seal: true };

test('user data says whose it is, and has nothing of a session', async () => {
  const shop = await Shop.open();
  const ada = await shop.signedIn('ada');
  await ada.inData(async (data, session) => {
    assert.equal((data as { user?: string }).user, 'ada');
    assert.equal(await session.userData(), data);
    for (const name of ['signIn', 'signOut', 'renew', 'csrfToken', 'checkCsrf', 'userData']) assert.ok(!(name in data), name);
  });
  assert.deepEqual(await shop.keys(), [], 'reading stores nothing');
  await shop.visitor().inData((data, session) => assert.equal(data, session));
  assert.equal(await shop.sessions.deleteUser('nobody'), 0);
  await assert.rejects(shop.sessions.userData(''), fails('invalid'));
  const bad: Config[] = [{ userFields: [cart, new Value('cart')] }, { userDataTimeout: 0 }, { userDataTimeout: 1e15 }];
  for (const config of bad) assert.throws(() => new Sessions(shop.hooked.redis, config), fails('invalid'));
});

for (const config of [{}, sealed]) {
  describe(config.seal ? 'sealed' : 'in clear', () => {
    test('two requests that find no data both take effect', async () => {
      const shop = await Shop.open(config);
      const ada = await shop.signedIn('ada');
      await ada.inData(async (data) => {
        cart.add(data, 'apple', 1);
        gifts.set(data, 'a', 'first');
        await ada.tab().inData((other) => {
          cart.add(other, 'apple', 1);
          gifts.set(other, 'b', 'second');
          theme.set(other, 'dark');
        });
        assert.equal(await theme.update(data, (old) => `${old}er`), 'darker');
        assert.equal(contents(data), 'apple=2');
        assert.deepEqual([...gifts.entries(data)].sort(), [['a', 'first'], ['b', 'second']]);
        assert.equal(await gifts.take(data, 'b'), 'second');
        theme.set(data, 'light');
      });
      await ada.inData((data) => assert.deepEqual([theme.get(data), gifts.get(data, 'b')], ['light', undefined]));
    });

    test('data that expires between the read and the write is stored anew', async () => {
      const shop = await Shop.open(config);
      const ada = await shop.signedIn('ada');
      const expires = async () => void (await shop.direct.del(await shop.key()));
      const fill = () => ada.inData((data) => {
        cart.add(data, 'apple', 1);
        theme.set(data, 'dark');
      });
      await fill();
      await ada.inData(async (data) => {
        gifts.set(data, 'a', 1);
        const [before] = [(await shop.direct.hget(await shop.key(), '@l'))!.slice(0, 22)];
        await expires();
        const seen: unknown[] = [];
        assert.equal(await theme.update(data, (old) => (seen.push(old), 'light')), 'light');
        assert.deepEqual(seen, ['dark', undefined], 'the function is called again');
        assert.equal(contents(data), '');
        assert.notEqual((await shop.direct.hget(await shop.key(), '@l'))!.slice(0, 22), before, 'another id');
        assert.equal(gifts.get(data, 'a'), 1);
        await expires();
        cart.add(data, 'pear', 1);
      });
      assert.equal(await ada.cart(), 'pear=1');
      await ada.inData(async (data) => {
        theme.set(data, 'dark');
        await data.commit();
        await expires();
        assert.equal(await theme.take(data), undefined);
        await expires();
        assert.equal(await cart.addWithin(data, 'fig', 2, 0, 3, 1), 2n);
        await expires();
        await assert.rejects(cart.addWithin(data, 'fig', 4, 0, 3, 1), fails('limit'));
      });
    });

    test('values open in data that expires and that another request stores anew', async () => {
      const changes: Record<string, (data: FieldSet, session: Session) => unknown> = {
        set: (data) => theme.set(data, 'mine'),
        update: (data) => theme.update(data, () => 'mine'),
        take: async (data) => {
          assert.equal(await theme.take(data), 'other');
          theme.set(data, 'mine');
        },
        join: async (_data, session) => {
          theme.set(session, 'mine');
          await session.commit();
          await session.userData();
        },
      };
      await Promise.all(Object.entries(changes).map(async ([what, change]) => {
        const shop = await Shop.open(config);
        const ada = await shop.signedIn('ada');
        await ada.inData((data) => theme.set(data, 'dark'));
        await ada.inData(async (data, session) => {
          assert.equal(theme.get(data), 'dark');
          await shop.direct.del(await shop.key());
          await ada.tab().inData((other) => theme.set(other, 'other'));
          await change(data, session);
          await data.commit();
          assert.equal(theme.get(data), 'mine', what);
        });
        await ada.inData((data) => assert.equal(theme.get(data), 'mine', what));
      }));
    });

    test('each kind of field joins, and other fields do not', async () => {
      const shop = await Shop.open(config);
      const fill = (visitor: Visitor, x: string, count: number) => visitor.inData((data) => {
        n.add(data, count);
        cart.add(data, 'both', count);
        cart.add(data, x, count);
        gifts.set(data, 'both', x);
        gifts.set(data, x, { x });
        theme.set(data, x);
        notice.set(data, x);
      });
      const [known, unknown] = [await shop.signedIn('ada'), shop.visitor()];
      await fill(known, 'known', 10);
      await fill(unknown, 'unknown', 1);
      await unknown.request(async (session) => {
        cart.add(session, 'late', 1); // joins without a commit in between
        await session.signIn({ user: 'ada' });
      });
      await unknown.inData((data, session) => {
        assert.deepEqual([n.get(data), contents(data)], [11, 'both=11 known=10 late=1 unknown=1']);
        const all = { both: 'unknown', known: { x: 'known' }, unknown: { x: 'unknown' } };
        assert.deepEqual(Object.fromEntries(gifts.entries(data)), all);
        assert.deepEqual([theme.get(data), notice.get(data)], ['unknown', 'known']);
        assert.deepEqual([notice.get(session), contents(session), theme.get(session), n.get(session)], [undefined, '', undefined, 0]);
      });
      const values = Object.entries(await shop.direct.hgetall(await shop.key()));
      const clear = values.filter(([name, value]) => /^(gifts|theme|notice)/.test(name) && !value.startsWith('~'));
      assert.equal(clear.length, config.seal ? 0 : 5);
    });
  });
}

test('whatever step fails, and whatever reply is lost, the cart joins once', async () => {
  for (const [script, fault] of [
    ['create', refused], ['create', lost], ['join', refused], ['join', lost], ['touch', lost], ['signin', lost], ['none', lost],
  ] as const) {
    for (const exists of [false, true]) {
      const shop = await Shop.open();
      if (exists) await (await shop.signedIn('ada')).add('apple', 1);
      const visitor = shop.visitor();
      await visitor.add('apple', 2);
      let once = true;
      shop.hooked.calls = [];
      shop.hooked.hook = (called, send) => {
        if (called !== script || !once) return send();
        once = false;
        return fault(send);
      };
      await visitor.request((session) => session.signIn({ user: 'ada' }));
      const what = `${script} ${fault.name}, ${exists ? 'the data exists' : 'no data'}`;
      assert.ok(!once || script === 'none' || (script === 'create' && exists), `${what}: no such call was made`);
      assert.equal(await visitor.cart(), exists ? 'apple=3' : 'apple=2', what);
      assert.equal(await visitor.tab().cart(), exists ? 'apple=3' : 'apple=2', what);
      const failed = fault === refused && !once;
      assert.equal(shop.logged.some((line) => line.includes('did not join')), failed, what);
    }
  }
});

test('the first change is stored once, also if its reply is lost', async () => {
  const shop = await Shop.open(sealed);
  const ada = await shop.signedIn('ada');
  let once = true;
  shop.hooked.hook = (called, send) => {
    if (called !== 'create' || !once) return send();
    once = false;
    return lost(send);
  };
  await ada.inData(async (data) => {
    cart.add(data, 'apple', 1);
    assert.equal(await theme.update(data, (old) => `${old ?? ''}x`), 'x');
    assert.deepEqual([contents(data), theme.get(data)], ['apple=1', 'x']);
    cart.add(data, 'apple', 1);
  });
  assert.equal(once, false);
  await ada.inData((data) => assert.deepEqual([contents(data), theme.get(data)], ['apple=2', 'x']));
});

test('a join whose outcome stays unknown is not made twice', async () => {
  const shop = await Shop.open({ timeout: 300 });
  const visitor = shop.visitor();
  await visitor.add('apple', 2);
  shop.hooked.hook = (called, send) => (called === 'join' ? lost(send) : send());
  await visitor.request((session) => session.signIn({ user: 'ada' }));
  shop.hooked.hook = undefined;
  assert.deepEqual(shop.logged, [], 'reading both again shows that it was made');
  assert.equal(await visitor.cart(), 'apple=2');
});

test('a join waits for a later request while a slot moves or a sign-in is under way', async () => {
  for (const reply of [new Error('TRYAGAIN Multiple keys request during rehashing of slot'), ['busy']]) {
    const shop = await Shop.open();
    const visitor = shop.visitor();
    await visitor.add('apple', 2);
    shop.hooked.hook = (called, send) => (called === 'join' ? Promise.resolve([reply]) : send());
    await visitor.request((session) => session.signIn({ user: 'ada' }));
    await visitor.inData((data, session) => assert.deepEqual([contents(data), contents(session)], ['', 'apple=2']));
    assert.equal(shop.hooked.calls.filter((script) => script === 'join').length, 2, 'it is not tried again at once');
    shop.hooked.hook = undefined;
    assert.equal(await visitor.cart(), 'apple=2');
  }
});

test('a join meets changes of others', async () => {
  const shop = await Shop.open();
  const [ada, visitor] = [await shop.signedIn('ada'), shop.visitor()];
  await ada.add('apple', 1);
  await visitor.add('apple', 2);
  let rounds = 3;
  shop.hooked.hook = async (called, send) => {
    if (called === 'join' && rounds-- > 0) {
      if (rounds === 1) await shop.direct.del(await shop.key()); // the data has expired
      else await ada.add('apple', 10);
    }
    return send();
  };
  await visitor.request((session) => session.signIn({ user: 'ada' }));
  shop.hooked.hook = undefined;
  assert.equal(await visitor.cart(), 'apple=12');
  assert.deepEqual(shop.logged, []);
});

test('what is no count, or does not fit, stays in the session', async () => {
  const shop = await Shop.open();
  const mixed = shop.another({ userFields: [new Counter('theme'), cart, n] });
  const visitor = mixed.visitor();
  await visitor.inData((data) => {
    theme.set(data, 'dark');
    cart.add(data, 'apple', 1);
  });
  await visitor.request((session) => session.signIn({ user: 'ada' }));
  await visitor.request(async (session) => {
    await assert.rejects(session.userData(), (error) => fails('decode')(error) && /Sessions\.userData/.test(String(error)));
    assert.deepEqual([contents(session), theme.get(session)], ['apple=1', 'dark']);
    theme.delete(session);
    await session.commit();
    assert.equal(contents(await session.userData()), 'apple=1');
  });
  const full = await shop.sessions.userData('bob');
  gifts.set(full, 'a', 'x'.repeat(65_000));
  n.add(full, 2n ** 63n - 1n);
  await full.commit();
  for (const [fill, code] of [
    [(data: FieldSet) => theme.set(data, 'y'.repeat(1000)), 'too large'],
    [(data: FieldSet) => n.add(data, 1), 'invalid'],
  ] as const) {
    const bob = shop.visitor();
    await bob.inData(fill);
    await bob.request((session) => session.signIn({ user: 'bob' }));
    assert.match(shop.logged.at(-1)!, /did not join/);
    const before = await shop.direct.hgetall(await shop.keyOf('bob'));
    await bob.request((session) => assert.rejects(session.userData(), fails(code)));
    assert.deepEqual(await shop.direct.hgetall(await shop.keyOf('bob')), before);
  }
});

test('a session that has ended changes no user data', async () => {
  const changes: Record<string, (data: FieldSet) => unknown> = {
    middleware: (data) => cart.add(data, 'apple', 1),
    commit: (data) => (cart.add(data, 'apple', 1), data.commit()),
    update: (data) => theme.update(data, () => 'dark'),
    take: (data) => theme.take(data),
    'add within': (data) => cart.addWithin(data, 'apple', 1, 0, 10, 10),
  };
  const ends: Record<string, (shop: Shop, session: Session) => Promise<unknown>> = {
    'revocation elsewhere': (shop) => shop.another().sessions.revokeUser('ada'),
    'revocation here': (shop) => shop.sessions.revokeUser('ada'),
    everybody: (shop) => shop.another().sessions.revokeEverybody(),
    'sign-out in this request': (_shop, session) => session.signOut(),
    'another user in this request': (_shop, session) => session.signIn({ user: 'bob' }),
  };
  for (const [how, end] of Object.entries(ends)) {
    const shop = await Shop.open();
    for (const [what, change] of Object.entries(changes)) {
      const ada = await shop.signedIn('ada');
      await ada.inData((data) => theme.set(data, 'kept'));
      await assert.rejects(ada.inData(async (data, session) => {
        await end(shop, session);
        await change(data);
      }), fails('ended'), `${what}, ${how}`);
      const data = await shop.sessions.userData('ada');
      assert.deepEqual([contents(data), theme.get(data)], ['', 'kept'], `${what}, ${how}`);
      await sleep(5); // a sign-in in the millisecond of a revocation is refused
    }
  }
});

test('after a sign-in as another, neither user has the changes of the other', async () => {
  const shop = await Shop.open();
  const visitor = await shop.signedIn('ada');
  await visitor.inData(async (ada, session) => {
    cart.add(ada, 'apple', 1);
    await session.signIn({ user: 'ada' }); // with a second factor, say
    assert.equal(await session.userData(), ada);
    cart.add(ada, 'apple', 1);
    await session.signIn({ user: 'bob' });
    const bob = await session.userData();
    assert.notEqual(bob, ada);
    assert.equal(contents(bob), '');
    cart.add(bob, 'pear', 1);
  });
  assert.equal(await visitor.cart(), 'pear=1');
  assert.equal(await shop.cartOf('ada'), 'apple=2');
  await assert.rejects(visitor.inData(async (bob, session) => {
    cart.add(bob, 'pear', 10);
    await session.signIn({ user: 'ada' }); // commits the change before
    cart.add(bob, 'pear', 100);
  }), fails('ended'));
  assert.deepEqual([await shop.cartOf('bob'), await shop.cartOf('ada')], ['pear=11', 'apple=2']);
  // A sign-in is how to go on after an end.
  await visitor.inData(async (ada, session) => {
    await shop.another().sessions.revokeUser('ada');
    cart.add(ada, 'apple', 1000);
    await assert.rejects(ada.commit(), fails('ended'));
    await session.signIn({ user: 'ada', began: new Date(Date.now() + 1000) });
    cart.add(await session.userData(), 'apple', 1);
  });
  assert.equal(await visitor.cart(), 'apple=3');
});

test('the session is committed first, and an error leaves the data unchanged', async () => {
  const shop = await Shop.open();
  const ada = await shop.signedIn('ada');
  await ada.add('apple', 1);
  await assert.rejects(ada.inData((data, session) => {
    cart.add(data, 'apple', 10);
    notice.set(session, 'x'.repeat(70_000));
  }), fails('too large'));
  assert.equal(await ada.cart(), 'apple=1');
  await ada.inData((data, session) => {
    cart.add(data, 'apple', 10);
    session.discard();
    cart.add(data, 'pear', 1);
  });
  assert.equal(await ada.cart(), 'apple=1 pear=1');
  // The reply to the change of the data is lost: it may have been stored, and is not sent again.
  shop.hooked.hook = (called, send) => (called === 'apply' ? lost(send) : send());
  await assert.rejects(ada.inData((data) => cart.add(data, 'apple', 10)), fails('unknown outcome'));
  shop.hooked.hook = undefined;
  assert.equal(await ada.cart(), 'apple=11 pear=1');
});

test('Redis that stops between the two commits leaves the data as it was', async () => {
  const server = await Server.start(['--appendonly', 'yes', '--appendfsync', 'always']);
  try {
    const shop = await Shop.open({ timeout: 500 }, server.url);
    const ada = await shop.signedIn('ada');
    for (const fruit of ['apple', 'pear']) await ada.add(fruit, 1); // the second one loads apply.lua
    shop.hooked.hook = async (called, send) => {
      const replies = await send();
      if (called === 'apply') await server.down();
      return replies;
    };
    await assert.rejects(ada.inData((data, session) => {
      notice.set(session, 'committed');
      cart.add(data, 'apple', 10);
    }), (error) => isSessionError(error) && error.status === 503);
    await assert.rejects(ada.cart(), fails('unavailable'), 'an error is no empty cart');
    shop.hooked.hook = undefined;
    await server.up();
    const again = shop.another({ timeout: 60_000 }).visitor(ada.cookie);
    await again.inData((data, session) => assert.deepEqual([contents(data), notice.get(session)], ['apple=1 pear=1', 'committed']));
  } finally {
    await server.stop();
  }
});

test('data that is malformed is an error, and stays as it is', async () => {
  const shop = await Shop.open();
  const ada = await shop.signedIn('ada');
  await ada.add('apple', 1);
  const key = await shop.key();
  const good = await shop.direct.hgetall(key);
  const { '@s': s, '@l': l } = good as { '@s': string; '@l': string };
  const hashes: Record<string, Record<string, string>> = {
    'another version': { ...good, '@s': `2${s.slice(1)}` },
    'another verifier': { ...good, '@s': `${s.slice(0, 2)}AAAAAAAAAAAAAAAAAAAAAA${s.slice(24)}` },
    flags: { ...good, '@s': `12${s.slice(2)}`, '@moving': `AAAAAAAAAAAAAAAAAAAAAA${l.slice(22, 34)}` },
    'a size': { ...good, '@s': `${s.slice(0, 36)}ffffffff${s.slice(44)}` },
    'no @l': { '@s': s, 'cart:apple': '1' },
    'no metadata': { 'cart:apple': '1' },
    'a marker': { '@moved': l.slice(22, 34) },
    'unknown metadata': { ...good, '@x': '1' },
    'a name': { ...good, 'a b': '1' },
  };
  const puts: Record<string, () => Promise<unknown>> = {
    'a string': () => shop.direct.set(key, 'x'),
    'a list': () => shop.direct.rpush(key, 'x'),
  };
  for (const [name, hash] of Object.entries(hashes)) puts[name] = () => shop.direct.hset(key, hash);
  for (const [name, put] of Object.entries(puts)) {
    await shop.direct.del(key);
    await put();
    const before = await shop.direct.dumpBuffer(key);
    const same = async (what: string) => assert.deepEqual(await shop.direct.dumpBuffer(key), before, `${name}: ${what}`);
    await assert.rejects(shop.sessions.userData('ada'), fails('unavailable'), name);
    await assert.rejects(ada.add('apple', 1), fails('unavailable'), name);
    const visitor = shop.visitor();
    await visitor.add('pear', 1);
    await visitor.request((session) => session.signIn({ user: 'ada' })); // the cart stays in the session
    await visitor.request((session) => assert.equal(contents(session), 'pear=1'));
    await same('reading and joining');
    // A request that found no data creates it.
    await shop.direct.del(key);
    const data = await shop.sessions.userData('ada');
    cart.add(data, 'apple', 1);
    await put();
    await assert.rejects(data.commit(), fails('unavailable'), name);
    await same('creating');
  }
});

test('without the key of a sealed value, user data is an error, and can be emptied', async () => {
  const shop = await Shop.open(sealed);
  const ada = await shop.signedIn('ada');
  await ada.inData((data) => theme.set(data, 'dark'));
  const other = shop.another({ keys: [Buffer.alloc(32, 3)] });
  await assert.rejects(other.sessions.userData('ada'), fails('sealed'));
  assert.equal(await other.sessions.deleteUser('ada'), 1);
  assert.deepEqual(Object.keys(await shop.direct.hgetall(await shop.key())).sort(), ['@l', '@s']);
  assert.equal(theme.get(await shop.sessions.userData('ada')), undefined);
  const rotated = shop.another({ keys: [Buffer.alloc(32, 3), ...sealed.keys!] });
  await (await shop.signedIn('eve')).inData((data) => theme.set(data, 'dark'));
  assert.equal(theme.get(await rotated.sessions.userData('eve')), 'dark');
});

test('a use is recorded, at most once an hour or a twentieth of the timeout', async () => {
  const shop = await Shop.open();
  const ada = await shop.signedIn('ada');
  await ada.add('apple', 1);
  const key = await shop.key();
  const hour = 3_600_000;
  for (const [ago, touched] of [[0.9 * hour, false], [1.1 * hour, true]] as const) {
    const [s, l] = (await shop.direct.hmget(key, '@s', '@l')) as [string, string];
    const back = (text: string, at: number) =>
      text.slice(0, at) + (parseInt(text.slice(at, at + 12), 16) - ago).toString(16).padStart(12, '0') + text.slice(at + 12);
    await shop.direct.hset(key, '@s', back(s, 44), '@l', back(back(l, 22), 34));
    const before = await shop.direct.hget(key, '@s');
    shop.hooked.calls = [];
    assert.equal(await ada.cart(), 'apple=1');
    assert.deepEqual(shop.hooked.calls, touched ? ['touch'] : []);
    assert.equal((await shop.direct.hget(key, '@s')) !== before, touched);
    await shop.direct.hset(key, '@s', s, '@l', l);
  }
});

test('parts of one request use the same data at the same time', async () => {
  const shop = await Shop.open({ ...sealed });
  const ada = await shop.signedIn('ada');
  await ada.request(async (session) => {
    const all = await Promise.all(Array.from({ length: 30 }, async (_, i) => {
      const data = await session.userData();
      n.add(data, 1);
      notice.set(session, String(i));
      if (i % 3 === 0) await data.commit();
      if (i % 5 === 0) await session.commit();
      if (i % 7 === 0) await theme.update(data, (old) => `${old ?? ''}x`);
      await cart.addWithin(data, 'apple', 1, 0, 100, 10);
      return data;
    }));
    assert.equal(new Set(all).size, 1);
  });
  await ada.inData((data) => assert.deepEqual([n.get(data), contents(data), theme.get(data)], [30, 'apple=30', 'xxxxx']));
});
