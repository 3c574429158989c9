//! Users, roles and permissions.

use kvorum_proto::authpb::permission::Type as PermissionType;
use kvorum_proto::authpb::{Permission, UserAddOptions};
use kvorum_proto::etcdserverpb::{
    AuthDisableRequest, AuthDisableResponse, AuthEnableRequest, AuthEnableResponse,
    AuthRoleAddRequest, AuthRoleAddResponse, AuthRoleDeleteRequest, AuthRoleDeleteResponse,
    AuthRoleGetRequest, AuthRoleGetResponse, AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse, AuthRoleListRequest, AuthRoleListResponse,
    AuthRoleRevokePermissionRequest, AuthRoleRevokePermissionResponse, AuthStatusRequest,
    AuthStatusResponse, AuthUserAddRequest, AuthUserAddResponse, AuthUserChangePasswordRequest,
    AuthUserChangePasswordResponse, AuthUserDeleteRequest, AuthUserDeleteResponse,
    AuthUserGetRequest, AuthUserGetResponse, AuthUserGrantRoleRequest, AuthUserGrantRoleResponse,
    AuthUserListRequest, AuthUserListResponse, AuthUserRevokeRoleRequest,
    AuthUserRevokeRoleResponse,
};

use crate::client::{Client, Method, Retry};
use crate::error::Error;
use crate::kv::KeyRange;

const AUTH_ENABLE: Method<AuthEnableRequest, AuthEnableResponse> =
    Method::new("/etcdserverpb.Auth/AuthEnable", Retry::Once);
const AUTH_DISABLE: Method<AuthDisableRequest, AuthDisableResponse> =
    Method::new("/etcdserverpb.Auth/AuthDisable", Retry::Once);
const AUTH_STATUS: Method<AuthStatusRequest, AuthStatusResponse> =
    Method::new("/etcdserverpb.Auth/AuthStatus", Retry::Repeatable);
const USER_DELETE: Method<AuthUserDeleteRequest, AuthUserDeleteResponse> =
    Method::new("/etcdserverpb.Auth/UserDelete", Retry::Once);
const USER_GET: Method<AuthUserGetRequest, AuthUserGetResponse> =
    Method::new("/etcdserverpb.Auth/UserGet", Retry::Repeatable);
const USER_LIST: Method<AuthUserListRequest, AuthUserListResponse> =
    Method::new("/etcdserverpb.Auth/UserList", Retry::Repeatable);
const USER_CHANGE_PASSWORD: Method<AuthUserChangePasswordRequest, AuthUserChangePasswordResponse> =
    Method::new("/etcdserverpb.Auth/UserChangePassword", Retry::Once);
const USER_GRANT_ROLE: Method<AuthUserGrantRoleRequest, AuthUserGrantRoleResponse> =
    Method::new("/etcdserverpb.Auth/UserGrantRole", Retry::Once);
const USER_REVOKE_ROLE: Method<AuthUserRevokeRoleRequest, AuthUserRevokeRoleResponse> =
    Method::new("/etcdserverpb.Auth/UserRevokeRole", Retry::Once);
const ROLE_ADD: Method<AuthRoleAddRequest, AuthRoleAddResponse> =
    Method::new("/etcdserverpb.Auth/RoleAdd", Retry::Once);
const ROLE_GET: Method<AuthRoleGetRequest, AuthRoleGetResponse> =
    Method::new("/etcdserverpb.Auth/RoleGet", Retry::Repeatable);
const ROLE_LIST: Method<AuthRoleListRequest, AuthRoleListResponse> =
    Method::new("/etcdserverpb.Auth/RoleList", Retry::Repeatable);
const ROLE_DELETE: Method<AuthRoleDeleteRequest, AuthRoleDeleteResponse> =
    Method::new("/etcdserverpb.Auth/RoleDelete", Retry::Once);
const USER_ADD: Method<AuthUserAddRequest, AuthUserAddResponse> =
    Method::new("/etcdserverpb.Auth/UserAdd", Retry::Once);
const ROLE_GRANT_PERMISSION: Method<
    AuthRoleGrantPermissionRequest,
    AuthRoleGrantPermissionResponse,
> = Method::new("/etcdserverpb.Auth/RoleGrantPermission", Retry::Once);
const ROLE_REVOKE_PERMISSION: Method<
    AuthRoleRevokePermissionRequest,
    AuthRoleRevokePermissionResponse,
> = Method::new("/etcdserverpb.Auth/RoleRevokePermission", Retry::Once);

impl Client {
    /// Makes the members ask who a caller is. There must be a user `root` with the role `root`.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn auth_enable(&self) -> Result<AuthEnableResponse, Error> {
        let request = AuthEnableRequest {};
        self.call(&AUTH_ENABLE, &request).await
    }

    /// Lets everybody do everything again.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn auth_disable(&self) -> Result<AuthDisableResponse, Error> {
        let request = AuthDisableRequest {};
        self.call(&AUTH_DISABLE, &request).await
    }

    /// Whether callers are asked who they are, and how often users and roles changed.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn auth_status(&self) -> Result<AuthStatusResponse, Error> {
        let request = AuthStatusRequest {};
        self.call(&AUTH_STATUS, &request).await
    }

    /// Deletes a user.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_delete(&self, name: &str) -> Result<AuthUserDeleteResponse, Error> {
        let request = AuthUserDeleteRequest {
            name: name.to_owned(),
        };
        self.call(&USER_DELETE, &request).await
    }

    /// The roles of a user.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_get(&self, name: &str) -> Result<AuthUserGetResponse, Error> {
        let request = AuthUserGetRequest {
            name: name.to_owned(),
        };
        self.call(&USER_GET, &request).await
    }

    /// The names of all users.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_list(&self) -> Result<AuthUserListResponse, Error> {
        let request = AuthUserListRequest {};
        self.call(&USER_LIST, &request).await
    }

    /// Gives a user another password, sent as it is: use TLS.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_change_password(
        &self,
        name: &str,
        password: &str,
    ) -> Result<AuthUserChangePasswordResponse, Error> {
        let request = AuthUserChangePasswordRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        self.call(&USER_CHANGE_PASSWORD, &request).await
    }

    /// Gives a role to a user.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_grant_role(
        &self,
        user: &str,
        role: &str,
    ) -> Result<AuthUserGrantRoleResponse, Error> {
        let request = AuthUserGrantRoleRequest {
            user: user.to_owned(),
            role: role.to_owned(),
        };
        self.call(&USER_GRANT_ROLE, &request).await
    }

    /// Takes a role away from a user.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_revoke_role(
        &self,
        user: &str,
        role: &str,
    ) -> Result<AuthUserRevokeRoleResponse, Error> {
        let request = AuthUserRevokeRoleRequest {
            name: user.to_owned(),
            role: role.to_owned(),
        };
        self.call(&USER_REVOKE_ROLE, &request).await
    }

    /// Makes a role without permissions.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn role_add(&self, name: &str) -> Result<AuthRoleAddResponse, Error> {
        let request = AuthRoleAddRequest {
            name: name.to_owned(),
        };
        self.call(&ROLE_ADD, &request).await
    }

    /// The permissions of a role.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn role_get(&self, role: &str) -> Result<AuthRoleGetResponse, Error> {
        let request = AuthRoleGetRequest {
            role: role.to_owned(),
        };
        self.call(&ROLE_GET, &request).await
    }

    /// The names of all roles.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn role_list(&self) -> Result<AuthRoleListResponse, Error> {
        let request = AuthRoleListRequest {};
        self.call(&ROLE_LIST, &request).await
    }

    /// Deletes a role and takes it away from all users.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn role_delete(&self, role: &str) -> Result<AuthRoleDeleteResponse, Error> {
        let request = AuthRoleDeleteRequest {
            role: role.to_owned(),
        };
        self.call(&ROLE_DELETE, &request).await
    }

    /// Makes a user. Without a password only a client's certificate can be that user.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn user_add(
        &self,
        name: &str,
        password: Option<&str>,
    ) -> Result<AuthUserAddResponse, Error> {
        let request = AuthUserAddRequest {
            name: name.to_owned(),
            password: password.unwrap_or_default().to_owned(),
            options: Some(UserAddOptions {
                no_password: password.is_none(),
            }),
            ..Default::default()
        };
        self.call(&USER_ADD, &request).await
    }

    /// Lets a role read, write, or both, the keys of a range.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn role_grant_permission(
        &self,
        role: &str,
        kind: PermissionType,
        range: KeyRange,
    ) -> Result<AuthRoleGrantPermissionResponse, Error> {
        let permission = Permission {
            perm_type: kind.into(),
            key: range.key,
            range_end: range.range_end,
        };
        let request = AuthRoleGrantPermissionRequest {
            name: role.to_owned(),
            perm: Some(permission),
        };
        self.call(&ROLE_GRANT_PERMISSION, &request).await
    }

    /// Takes a permission away from a role. The range must be one that was granted.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn role_revoke_permission(
        &self,
        role: &str,
        range: KeyRange,
    ) -> Result<AuthRoleRevokePermissionResponse, Error> {
        let request = AuthRoleRevokePermissionRequest {
            role: role.to_owned(),
            key: range.key,
            range_end: range.range_end,
        };
        self.call(&ROLE_REVOKE_PERMISSION, &request).await
    }
}
