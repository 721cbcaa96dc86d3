<?php

declare(strict_types=1);

namespace Coatcheck\Session\Tests;

use Coatcheck\Session\Config;
use Coatcheck\Session\Counter;
use Coatcheck\Session\Counters;
use Coatcheck\Session\Data;
use Coatcheck\Session\Incoming;
use Coatcheck\Session\Json;
use Coatcheck\Session\Login;
use Coatcheck\Session\Manager;
use Coatcheck\Session\Map;
use Coatcheck\Session\Outgoing;
use Coatcheck\Session\Problem;
use Coatcheck\Session\Session;
use Coatcheck\Session\SessionException;
use Coatcheck\Session\Store;
use Coatcheck\Session\Text;
use Coatcheck\Session\Value;

/** The step function of the contract suite: see format/contract/README.md. */
final class Step
{
    private const WITHOUT_SESSION = ['sessions', 'count sessions', 'revoke', 'revoke user', 'revoke everybody', 'delete user', 'data of'];

    /** @var array<string, Manager> by the JSON of their options */
    private array $clients = [];
    /** @var array<string, Session> */
    private array $open = [];

    public function line(string $line): string
    {
        $request = Json::decode($line, 'request');
        $reply = ['id' => $request['id']];
        try {
            $manager = $this->clients[$key = json_encode($request['client'])] ??= $this->client($request['client']);
            unset($key);
            $reply += $this->run($manager, $request);
        } catch (SessionException | \InvalidArgumentException $e) {
            $reply += ['outcome' => 'unavailable', 'session' => null, 'error' => $e->getMessage()];
        } catch (\Throwable $e) {
            $reply += ['outcome' => 'other', 'session' => null, 'error' => (string) $e];
        }
        return Json::encode($reply, 'reply');
    }

    private function client(array $o): Manager
    {
        $seconds = fn (string $name): ?float => isset($o[$name]) ? $o[$name] / 1000 : null;
        $lifetime = $seconds('lifetime_ms') ?? 86400.0;
        return new Manager(
            Store::connect($o['url'], $o['namespace'], timeout: RedisServer::PATIENCE, persistent: false),
            new Config(
                idleTimeout: $seconds('idle_ms'), firstUseTimeout: $seconds('first_use_ms'), lifetime: $lifetime,
                maxRemember: $seconds('max_remember_ms') ?? 0.0, maxSize: $o['max_size'] ?? 65536, maxPerUser: $o['max_per_user'] ?? 0,
                refuseExtra: $o['refuse_extra'] ?? false, keepFields: $o['keep_fields'] ?? [], userFields: self::userFields($o),
                userDataTimeout: $seconds('user_data_timeout_ms') ?? 7_776_000.0,
                keys: array_map(hex2bin(...), $o['keys'] ?? []), userKey: isset($o['user_key']) ? hex2bin($o['user_key']) : null,
                seal: $o['seal'] ?? false, rotateEvery: $seconds('rotate_ms') ?? 0.0,
            ),
            fn (string $message) => null,
        );
    }

    /** @return list<Value|Map|Counter|Counters> */
    private static function userFields(array $o): array
    {
        $fields = [];
        foreach ($o['user_fields'] ?? [] as $name => $kind) {
            $fields[] = match ($kind) {
                'value' => new Value($name),
                'map' => new Map($name),
                'counter' => new Counter($name),
                'counters' => new Counters($name),
            };
        }
        return $fields;
    }

    private function run(Manager $manager, array $request): array
    {
        $name = $request['request'] ?? '';
        $session = $this->open[$name] ?? $manager->begin(Incoming::withToken($request['token'] ?? null, $manager->config->cookie->name));
        unset($this->open[$name]);
        $stays = $request['open'] ?? false;
        $reply = ['outcome' => 'ok', 'values' => []];
        try {
            $words = array_column($request['do'] ?? [], 0);
            if ($words === [] || array_diff($words, self::WITHOUT_SESSION) !== []) {
                $session->load();
            }
            foreach ($request['do'] ?? [] as $action) {
                array_push($reply['values'], ...$this->act($manager, $session, $action));
            }
            if ($stays) {
                $this->open[$name] = $session;
                return $reply + ['session' => $this->handle($session)];
            }
            $session->finish();
            $session->touch();
        } catch (SessionException $e) {
            $session->abandon();
            $reply = ['outcome' => self::outcome($e->problem), 'error' => $e->getMessage()];
        }
        $reply['session'] = $this->handle($session);
        if ($session->out->cookie === Outgoing::SET) {
            $reply['token'] = $session->out->token->text($manager->keys);
        } elseif ($session->out->dropCookie || $session->out->dropAnonymous) {
            $reply['token'] = null;
        }
        return $reply;
    }

    private function handle(Session $session): ?string
    {
        try {
            return $session->handle();
        } catch (SessionException) {
            return null;
        }
    }

    private static function outcome(Problem $p): string
    {
        return match ($p) {
            Problem::Ended => 'ended',
            Problem::Unavailable => 'unavailable',
            Problem::TooLarge => 'too large',
            Problem::Limit => 'limit',
            Problem::Invalid => 'invalid',
            Problem::Decode => 'decode',
            Problem::Sealed => 'sealed',
            Problem::TooMany => 'too many',
            Problem::Revoked => 'revoked',
            Problem::NotFound => 'not found',
            Problem::UnknownOutcome => 'unknown outcome',
            default => 'other',
        };
    }

    /** @return array{0?: mixed} the value, if the action has one */
    private function act(Manager $manager, Session $s, array $action): array
    {
        [$word, $name, $x] = $action + [1 => '', 2 => null];
        switch ($word) {
            case 'data':
                return $this->actOnFields($s->userData(), array_slice($action, 1));
            case 'data of':
                $data = $manager->userData($name);
                $values = $this->actOnFields($data, array_slice($action, 2));
                $data->commit();
                return $values;
            case 'renew':
                $s->renew();
                return [];
            case 'sign in':
                $s->signIn(new Login(
                    $name['user'], $name['methods'] ?? [], $name['level'] ?? 0, $name['device'] ?? '', $name['user_agent'] ?? '',
                    $name['address'] ?? '', ($name['remember_ms'] ?? 0) / 1000, ($name['lifetime_ms'] ?? 0) / 1000,
                    isset($name['began_ago_ms']) ? microtime(true) - $name['began_ago_ms'] / 1000 : null,
                ));
                return [];
            case 'sign out':
                $s->signOut();
                return [];
            case 'user':
                return [$s->user()];
            case 'info':
                $i = $s->info();
                return [[
                    'user' => $i->user, 'methods' => $i->methods, 'level' => $i->level, 'device' => $i->device,
                    'user_agent' => $i->userAgent, 'address' => $i->address,
                ]];
            case 'lifetime':
                return [(int) round(($s->info()->deadline - $s->info()->created) * 1000)];
            case 'sessions':
                return [array_map(fn ($info): string => $info->handle, iterator_to_array($manager->sessions($name), false))];
            case 'count sessions':
                return [count(array_unique(array_map(fn ($info): string => $info->handle, iterator_to_array($manager->sessions($name), false))))];
            case 'revoke':
                $manager->revoke($name, $x);
                return [];
            case 'revoke user':
                return [$manager->revokeUser($name, $x ?? [])];
            case 'revoke everybody':
                $manager->revokeAll();
                return [];
            case 'delete user':
                return [$manager->deleteUser($name)];
        }
        return $this->actOnFields($s, $action);
    }

    /** @return array{0?: mixed} */
    private function actOnFields(Data $s, array $action): array
    {
        [$word, $name, $x] = $action + [1 => '', 2 => null];
        [$field, $key] = explode(':', is_string($name) ? $name : '', 2) + [1 => null];
        $value = fn (): array => $key === null ? [new Value($field)] : [new Map($field)];
        $at = $key === null ? [] : [$key];
        $counter = fn (): Counter|Counters => $key === null ? new Counter($field) : new Counters($field);
        switch ($word) {
            case 'get':
                return [$value()[0]->get($s, ...$at)];
            case 'has':
                return [$value()[0]->isSet($s, ...$at)];
            case 'set':
                $value()[0]->set($s, ...[...$at, $x]);
                return [];
            case 'set broken':
                $value()[0]->set($s, ...[...$at, "\xff"]);
                return [];
            case 'unset':
                $value()[0]->delete($s, ...$at);
                return [];
            case 'take':
                return [$value()[0]->take($s, ...$at)];
            case 'append':
                return [$value()[0]->update($s, ...[...$at, fn (?array $list): array => [...($list ?? []), $x]])];
            case 'count':
                return [(string) $counter()->get($s, ...$at)];
            case 'add':
                $n = Text::integer((string) $x) ?? throw new SessionException(Problem::Invalid, 'it has more than 64 bits');
                $counter()->add($s, ...[...$at, $n]);
                return [];
            case 'add within':
                return [(string) $counter()->addWithin($s, ...$at, ...array_map(
                    fn (mixed $n): int => Text::integer((string) $n) ?? throw new SessionException(Problem::Invalid, 'it has more than 64 bits'),
                    array_slice($action, 2),
                ))];
            case 'set within':
                (new Map($field))->setWithin($s, $key, $x, $action[3]);
                return [];
            case 'entries':
                return [self::object((new Map($field))->all($s))];
            case 'counts':
                return [self::object((function () use ($field, $s): \Generator {
                    foreach ((new Counters($field))->all($s) as $key => $n) {
                        yield $key => (string) $n;
                    }
                })())];
            case 'clear':
                $name === '' ? $s->clear() : (new Map($name))->clear($s);
                return [];
            case 'commit':
                $s->commit();
                return [];
        }
        throw new \LogicException("unknown action $word");
    }

    private static function object(\Generator $entries): \ArrayObject|array
    {
        $members = iterator_to_array($entries);
        return array_is_list($members) ? new \ArrayObject($members) : $members;
    }
}
