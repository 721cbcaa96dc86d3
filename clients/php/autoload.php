<?php

declare(strict_types=1);

// Loads the classes of this package, for programs without Composer. They are listed, so that no
// request asks the file system whether it has them.
spl_autoload_register(function (string $class): void {
    $name = str_starts_with($class, 'Coatcheck\\Session\\') ? substr($class, 18) : '';
    if (in_array($name, [
        'Commit', 'Config', 'Connection', 'Cookie', 'Counter', 'Counters', 'Csrf', 'Data',
        'FormatException', 'Incoming', 'Info', 'Join', 'Json', 'Keys', 'Keyspace', 'Lifecycle',
        'Login', 'Manager', 'Map', 'Middleware', 'Outgoing', 'Packed', 'Principal', 'Problem',
        'Reading', 'Record', 'Replication', 'Reply', 'ReplyError', 'Retry', 'Route', 'Scripts',
        'Session', 'SessionException', 'SessionHandler', 'SessionState', 'SignIn', 'State', 'Store',
        'Text', 'Token', 'UserData', 'UserDataStore', 'UserSessions', 'UserState', 'Value', 'View',
    ], true)) {
        require __DIR__ . "/src/$name.php";
    }
});
